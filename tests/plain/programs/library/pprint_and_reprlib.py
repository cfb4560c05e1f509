import pprint
import reprlib

pprint.pprint({"key" + str(n): list(range(n)) for n in range(12)}, width=40)
print(reprlib.repr(list(range(100))))
