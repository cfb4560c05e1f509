# /// plain
# env = { PYTHONDONTWRITEBYTECODE = "1" }
# ///
import os

open("helper.py", "w").write("x = 1\n")
import helper

print(os.path.exists("__pycache__"))
