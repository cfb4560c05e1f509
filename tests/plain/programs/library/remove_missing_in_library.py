import os
import sysconfig

try:
    os.remove(os.path.join(sysconfig.get_path("stdlib"), "no_such_module.pyc"))
except OSError as error:
    print(type(error).__name__, error.errno)
