import helper

print(helper.greet("Ada"), helper.__name__, helper.__file__, helper.__spec__.origin)
