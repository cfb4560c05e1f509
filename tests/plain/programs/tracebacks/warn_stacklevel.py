# /// plain
# sample = true
# ///
import warnings


def f(level):
    warnings.warn(f"level {level}", stacklevel=level)


for level in (1, 2, 3, 4):
    f(level)
