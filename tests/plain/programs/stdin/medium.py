# /// plain
# stdin = "7\n"
# ///
import sys

sys.stdout.write("".join(f"{int(line) * 2}\n" for line in sys.stdin))
