if (n := len([1, 2, 3])) > 2:
    print(n)
first, *middle, last = range(5)
print(first, middle, last, {**{"a": 1}, "b": 2}, [*"ab"])
