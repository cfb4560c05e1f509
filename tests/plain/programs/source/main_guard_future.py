from __future__ import annotations, division


def f(x: "int"): ...


print(f.__annotations__, compile("1", "", "eval").co_flags & 0x1000000)
