import re
import string

print(re.sub(r"(\w+)@(\w+)", r"\2 at \1", "ada@home"), string.Template("$a").substitute(a=1))
re.compile("(")
