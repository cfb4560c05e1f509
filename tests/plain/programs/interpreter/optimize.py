# /// plain
# env = { PYTHONOPTIMIZE = "2" }
# ///
"""A docstring."""
assert False
print(__doc__, __debug__)
