import importlib

print("run as", __name__)
if __name__ == "__main__":
    module = importlib.import_module("main")
    print(module.__file__, module.__name__)
