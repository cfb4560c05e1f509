open("/nowhere/at/all.txt")
