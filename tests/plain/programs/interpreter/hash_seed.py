# /// plain
# env = { PYTHONHASHSEED = "0" }
# ///
import sys

print(hash("text"), {"b", "a", "c"}, sys.flags.hash_randomization)
