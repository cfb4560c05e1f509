# /// plain
# stdin = "q\n"
# ///
help(len)
