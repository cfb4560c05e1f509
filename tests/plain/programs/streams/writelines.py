import sys

sys.stdout.writelines(f"{n}\n" for n in range(5))
sys.stderr.writelines(["a\n", "b\n"])
