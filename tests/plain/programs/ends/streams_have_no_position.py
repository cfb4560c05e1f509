import sys
print([s.seekable() for s in (sys.stdin, sys.stdout, sys.stderr)])
for s in (sys.stdout, sys.stderr): s.reconfigure(encoding='utf-8', errors='replace')
try: sys.stdout.tell()
except OSError as e: print(type(e), e)
print('\xe9')
