import os
import sysconfig

print(os.path.exists(sysconfig.get_makefile_filename()), os.path.isdir(sysconfig.get_path("include")))
