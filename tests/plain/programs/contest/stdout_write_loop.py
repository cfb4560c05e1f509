import sys

write = sys.stdout.write
for i in range(5000):
    write(str(i) + " ")
