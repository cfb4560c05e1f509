import runpy

open("other.py", "w").write("print(__name__, __file__)\ny = 2\n")
print(runpy.run_path("other.py")["y"])
print(runpy.run_module("other", run_name="__main__")["y"])
