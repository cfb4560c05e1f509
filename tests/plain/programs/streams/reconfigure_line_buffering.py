import sys

before = sys.stdout.line_buffering
sys.stdout.reconfigure(line_buffering=True)
print(before, sys.stdout.line_buffering)
