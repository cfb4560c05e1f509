import os

os.system("clear")
print("\033[2J\033[H", end="")
print("after")
