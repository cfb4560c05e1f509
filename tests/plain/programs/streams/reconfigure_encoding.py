# /// plain
# sample = true
# ///
import sys

sys.stdout.reconfigure(encoding="utf-8")
sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")
print("é ✓ 🎉")
print("ü", file=sys.stderr)
