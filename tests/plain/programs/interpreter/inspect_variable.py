# /// plain
# env = { PYTHONINSPECT = "" }
# ///
print("no prompt")
