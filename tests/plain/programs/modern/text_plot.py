import math

for y in range(5, -6, -1):
    print("".join("*" if round(5 * math.sin(x / 5)) == y else " " for x in range(60)).rstrip())
