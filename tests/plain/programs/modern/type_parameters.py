# /// plain
# python = ">=3.12"
# ///
type Pair[T] = tuple[T, T]


def first[T](pair: Pair[T]) -> T:
    return pair[0]


class Box[T]:
    def __init__(self, value: T) -> None:
        self.value = value


print(first((1, 2)), Pair, Box.__type_params__, Box[int](3).value)
