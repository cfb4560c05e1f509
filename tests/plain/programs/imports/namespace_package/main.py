import space.one
import space

print(space.__path__, space.__file__ if hasattr(space, "__file__") else None, space.one.x)
