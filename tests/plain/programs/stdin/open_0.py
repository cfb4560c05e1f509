# /// plain
# stdin = "5\n1 2 3 4 5\n"
# sample = true
# ///
n, *rest = open(0).read().split()
print(n, sum(map(int, rest)))
