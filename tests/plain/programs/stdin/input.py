# /// plain
# stdin = "Ada\n36\n"
# sample = true
# ///
name = input("Name? ")
age = int(input("Age? "))
print(f"{name} is {age}, next year {age + 1}")
