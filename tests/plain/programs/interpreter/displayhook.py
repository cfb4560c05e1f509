import sys

sys.displayhook(5)
sys.displayhook(None)
import builtins

print(builtins._)
