# /// plain
# normalize = ["addresses"]
# ///
import ast
import inspect

print(ast.dump(ast.parse("x = 1"), indent=1))
print(inspect.signature(lambda a, *b, c=1: 0))
ast.literal_eval("__import__('os')")
