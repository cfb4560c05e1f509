import io
import sys

raw = sys.stdout.detach()
sys.stdout = io.TextIOWrapper(raw, encoding="utf-8", line_buffering=True)
print("détaché")
