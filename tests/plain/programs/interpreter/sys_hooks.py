import sys

print(sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.breakpointhook is sys.__breakpointhook__)
print(sys.unraisablehook, sys.gettrace(), sys.getprofile(), hasattr(sys, "ps1"), hasattr(sys, "last_value"))
