import warnings

warnings.showwarning = lambda message, category, filename, lineno, file=None, line=None: print(message, filename, lineno)
warnings.warn("shown", stacklevel=2)
