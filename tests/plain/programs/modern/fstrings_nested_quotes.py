# /// plain
# python = ">=3.12"
# ///
d = {"k": 1}
print(f"{d["k"]} {f"{1 + 1}"}")
