# /// plain
# stdin = "a\r\nb\r\n"
# ///
print(repr(input()), repr(input()))
