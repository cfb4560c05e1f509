import main

print("helper has", main.__name__)
