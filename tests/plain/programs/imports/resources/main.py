import importlib.resources as resources

print((resources.files("pkg") / "data.txt").read_text())
import pkgutil

print(pkgutil.get_data("pkg", "data.txt"), [each.name for each in pkgutil.iter_modules(["."])])
