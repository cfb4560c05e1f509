import itertools


def fib():
    a, b = 0, 1
    while True:
        yield a
        a, b = b, a + b


print(list(itertools.islice(fib(), 10)), list(itertools.accumulate([1, 2, 3])), [*zip("ab", itertools.count())])
