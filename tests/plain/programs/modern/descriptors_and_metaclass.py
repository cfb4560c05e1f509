class Meta(type):
    def __new__(mcs, name, bases, space, **kwargs):
        print("making", name, kwargs)
        return super().__new__(mcs, name, bases, space)


class Positive:
    def __set_name__(self, owner, name):
        self.name = "_" + name

    def __get__(self, obj, owner=None):
        return getattr(obj, self.name)

    def __set__(self, obj, value):
        if value <= 0:
            raise ValueError(f"{self.name} must be positive")
        setattr(obj, self.name, value)


class A(metaclass=Meta, flag=True):
    x = Positive()


a = A()
a.x = 3
print(a.x, A.__qualname__, A.__module__, A)
a.x = -1
