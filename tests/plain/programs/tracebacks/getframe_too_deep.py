import sys

try:
    sys._getframe(1)
except ValueError as error:
    print(error)
print(sys._getframe().f_back)
