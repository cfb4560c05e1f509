import contextlib
import io
import sys

out = io.StringIO()
with contextlib.redirect_stdout(out):
    print("caught")
with contextlib.redirect_stderr(sys.stdout):
    print("err on out", file=sys.stderr)
print(repr(out.getvalue()))
