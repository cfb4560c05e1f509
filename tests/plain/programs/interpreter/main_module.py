import __main__
import sys

print(__main__ is sys.modules["__main__"], __main__, vars(__main__) is globals())
