import helper

CONSTANT = 5
print(helper.get())
