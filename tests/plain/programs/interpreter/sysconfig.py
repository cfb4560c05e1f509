import os
import sysconfig

print(sysconfig.get_paths())
print(os.path.exists(sysconfig.get_path("stdlib")), sysconfig.get_platform(), sysconfig.get_python_version())
