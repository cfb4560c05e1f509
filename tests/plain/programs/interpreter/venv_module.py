import sys
import venv

print(venv.EnvBuilder, sys.prefix == sys.base_prefix)
