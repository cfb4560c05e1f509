# é
print(1)
