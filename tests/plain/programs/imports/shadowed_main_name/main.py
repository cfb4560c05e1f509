import string

print(string.WHO)
import collections

print(collections.Counter("aab"))
