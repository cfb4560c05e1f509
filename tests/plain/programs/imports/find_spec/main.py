import importlib.util

for name in ("json", "helper", "nothing", "sys", "__main__"):
    try:
        spec = importlib.util.find_spec(name)
        print(name, spec and (spec.name, spec.origin, spec.has_location))
    except ValueError as error:
        print(name, error)
