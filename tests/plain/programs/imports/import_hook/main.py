import builtins

real, names = builtins.__import__, []


def hook(name, *args, **kwargs):
    names.append(name)
    return real(name, *args, **kwargs)


builtins.__import__ = hook
import colorsys
import html

builtins.__import__ = real
print(names[:1], "html" in names)
