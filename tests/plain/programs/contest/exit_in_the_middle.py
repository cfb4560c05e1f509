import sys

print("YES")
sys.exit(0)
print("NO")
