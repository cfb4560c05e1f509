import importlib.metadata as metadata

try:
    metadata.version("no-such-distribution")
except metadata.PackageNotFoundError as error:
    print(repr(error))
print([each.metadata["Name"] for each in metadata.distributions()])
