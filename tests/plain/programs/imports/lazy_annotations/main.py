from __future__ import annotations

import typing


def f(x: Missing) -> int: ...


print(f.__annotations__)
try:
    typing.get_type_hints(f)
except NameError as error:
    print(error)
