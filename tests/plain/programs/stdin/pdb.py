# /// plain
# stdin = "p x\nn\nc\n"
# ///
x = 41
breakpoint()
x += 1
print(x)
