import sys

print("/work" in sys.path_importer_cache)
