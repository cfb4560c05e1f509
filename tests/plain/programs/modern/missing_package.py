try:
    import numpy_that_is_not_there as np
except ImportError as e:
    print(f"Please install: {e.name}", e)
    raise SystemExit(1)
