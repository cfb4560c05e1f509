import ensurepip

print(type(ensurepip.version()).__name__)
