import warnings

warnings.warn("one", DeprecationWarning)
warnings.warn("two", stacklevel=2)
warnings.warn("three", UserWarning, stacklevel=3)
