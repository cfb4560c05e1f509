import sys

wanted = ("os", "site", "io", "abc", "codecs", "encodings.utf_8", "stat", "posixpath", "zipimport", "builtins")
print([name in sys.modules for name in wanted])
