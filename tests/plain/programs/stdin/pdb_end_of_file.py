import pdb

x = 41
pdb.set_trace()
print(x)
