import io
import sys

sys.stdin = io.TextIOWrapper(io.BytesIO(b"\xff\n"), encoding="utf-8")
print(input())
