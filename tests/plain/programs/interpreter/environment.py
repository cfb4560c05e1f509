# /// plain
# env = { GREETING = "hei på dig", EMPTY = "" }
# ///
import os

print(sorted(os.environ.items()))
print(os.getenv("GREETING"), os.environ.get("MISSING", "default"), os.environb[b"GREETING"])
