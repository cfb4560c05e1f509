from typing import Generic, NamedTuple, Protocol, TypedDict, TypeVar, Union, get_type_hints

T = TypeVar("T")


class P(NamedTuple):
    x: int
    y: str = "d"


class D(TypedDict, total=False):
    a: int


class Box(Generic[T]):
    item: T


print(P(1), D(a=1), Box[int], Union[int, None], get_type_hints(P), P.__annotations__)
