import sys

for name in ("stdin", "stdout"):
    try:
        print(getattr(sys, name).seek(0))
    except Exception as error:
        print(name, type(error).__name__, error)
