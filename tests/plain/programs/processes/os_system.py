import os

print("before", flush=True)
print(os.system("echo shell; exit 2") >> 8, os.popen("echo popen").read())
