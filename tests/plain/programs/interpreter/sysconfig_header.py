import os
import sysconfig

print(sysconfig.get_config_h_filename(), os.path.exists(sysconfig.get_config_h_filename()))
