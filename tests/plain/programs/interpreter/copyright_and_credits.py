print(copyright)
print(exit, quit)
print(type(help))
