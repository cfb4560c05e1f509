a = "hello_world"
b = "hello_world"
print(a is b, (1, 2) == (1, 2), 256 is int("256"), 257 is int("257"))
