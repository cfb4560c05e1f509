import io
import sys

for name in ("stdin", "stdout", "stderr"):
    try:
        getattr(sys, name).tell()
    except (io.UnsupportedOperation, OSError) as error:
        print(name, type(error).__name__, error)
