import warnings

with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    warnings.warn("caught", stacklevel=2)
print([(str(each.message), each.filename, each.lineno) for each in seen])
