try:
    collections
except NameError as error:
    print(error)
import os

print(hasattr(os, "path"))
try:
    import importlib

    importlib.util
    importlib.machinery
    print("both")
except AttributeError as error:
    print(error)
