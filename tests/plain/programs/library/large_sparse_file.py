import os

with open("large", "wb") as file:
    file.truncate(5 << 30)
print(os.path.getsize("large"))
