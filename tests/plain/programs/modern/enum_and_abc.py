import abc
import enum


class Colour(enum.Enum):
    RED = 1
    BLUE = enum.auto()


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...


print(Colour.RED, repr(Colour.BLUE), list(Colour), Colour["RED"], Colour(2).name)
Shape()
