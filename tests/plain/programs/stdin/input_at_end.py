# /// plain
# stdin = "one\n"
# ///
print(input())
print(input("more? "))
