import platform
import sys

print(sys.version, sys.version_info, sys.hexversion, sys.api_version, platform.python_implementation())
