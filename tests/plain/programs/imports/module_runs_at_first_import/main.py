import sys

print("colorsys" in sys.modules, "this" in sys.modules)
import this
