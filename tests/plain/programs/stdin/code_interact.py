# /// plain
# stdin = "1 + 1\nprint('hi')\n1 / 0\n"
# ///
import code

code.interact(banner="hello", exitmsg="bye", local={})
