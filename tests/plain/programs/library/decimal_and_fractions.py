from decimal import Decimal, getcontext
from fractions import Fraction

getcontext().prec = 30
print(Decimal(1) / Decimal(7), Fraction(3, 6), Decimal("0.1") + Decimal("0.2"), 0.1 + 0.2, round(2.5), f"{1e16:.3e}")
