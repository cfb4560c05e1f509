print(type(__builtins__), __builtins__.__name__)
