import calendar
import textwrap

print(calendar.month(2024, 2))
print(textwrap.fill("The quick brown fox jumps over the lazy dog", 20))
