import sys

sys.path.insert(0, "/work/lib")
import json.decoder
import tempfile

print(tempfile.gettempdir())
