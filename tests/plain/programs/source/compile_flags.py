code = compile("print(f.__annotations__)", "m", "exec")
from __future__ import annotations
