import sys

frame = sys._getframe()
print(frame.f_globals is globals(), frame.f_locals is globals(), frame.f_code.co_filename, frame.f_builtins is vars(__builtins__))
