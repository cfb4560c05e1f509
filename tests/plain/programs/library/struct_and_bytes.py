import struct

print(struct.pack(">IHb", 1, 2, -3), struct.calcsize("@qi"), bytes.fromhex("ff00").hex(" "), b"\xff".decode("latin-1"))
struct.unpack("<I", b"abc")
