import itertools
import tempfile

print(next(itertools.count()), tempfile.gettempprefix(), tempfile.gettempdir())
