# /// plain
# stdin = "x\ny\n"
# ///
print(open(0, closefd=False).read())
print(repr(open(0, closefd=False).read()))
