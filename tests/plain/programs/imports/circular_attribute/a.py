import b

print(b.a.late)
