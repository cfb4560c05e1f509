import bz2
import gzip
import lzma
import zlib

data = b"abc" * 100
print([m.decompress(m.compress(data)) == data for m in (bz2, gzip, lzma, zlib)])
zlib.decompress(b"nonsense")
