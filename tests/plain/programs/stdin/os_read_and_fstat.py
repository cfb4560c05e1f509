# /// plain
# stdin = "12 13\n"
# ///
import io
import os

buffer = io.BytesIO(os.read(0, os.fstat(0).st_size or 1 << 16))
print(buffer.readline())
