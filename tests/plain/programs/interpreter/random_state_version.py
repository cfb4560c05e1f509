import random

print(random.Random(1).getstate()[0], random.Random("x").random(), random.Random(b"x").getrandbits(64))
