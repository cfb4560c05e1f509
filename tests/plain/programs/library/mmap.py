import mmap

with open("m", "wb") as f:
    f.write(b"0123456789")
with open("m", "r+b") as f:
    m = mmap.mmap(f.fileno(), 0)
    m[0:2] = b"ab"
    print(m[:5], m.find(b"5"))
