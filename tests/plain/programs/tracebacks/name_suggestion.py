import math

number = 3
print(numbr)
