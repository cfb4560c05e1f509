print(hash(1), hash(2.5), hash(-1), hash(()), hash(None) == hash(None), hash(True))
