# /// plain
# normalize = ["seconds"]
# ///
import unittest

unittest.main(module=None, argv=["main.py", "discover", "-v"])
