import cProfile
import io
import pstats


def f():
    return sum(range(100))


profile = cProfile.Profile()
profile.runcall(f)
out = io.StringIO()
pstats.Stats(profile, stream=out).sort_stats("name").print_stats("f$")
print("function calls" in out.getvalue(), "main.py" in out.getvalue())
