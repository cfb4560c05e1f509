import sys

print(sys.exc_info())
try:
    1 / 0
except ZeroDivisionError:
    print(sys.exc_info()[0], sys.exc_info()[2].tb_next, sys.exc_info()[2].tb_frame.f_back)
print(sys.exc_info())
