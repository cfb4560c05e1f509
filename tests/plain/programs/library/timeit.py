import timeit

print(timeit.timeit("x = 1", number=1000) > 0, timeit.default_timer.__name__)
