import trace

tracer = trace.Trace(count=1, trace=0)


def f():
    return 1


tracer.runfunc(f)
print(sorted(key[1] for key in tracer.results().counts))
