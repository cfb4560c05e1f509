# /// plain
# sample = true
# ///
print("before")
print("\udcff")
