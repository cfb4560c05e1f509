# /// plain
# env = { PYTHONPROFILEIMPORTTIME = "" }
# ///
print("quiet")
