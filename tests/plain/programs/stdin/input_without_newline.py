# /// plain
# stdin = "no newline"
# ///
print(repr(input()))
