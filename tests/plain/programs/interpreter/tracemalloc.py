import tracemalloc

print(tracemalloc.is_tracing())
tracemalloc.start()
x = [object() for _ in range(10)]
print(tracemalloc.get_object_traceback(x[0]))
