source = "def f():\n    1 / 0\n"
exec(compile(source, "<generated>", "exec"))
f()
