from dataclasses import asdict, dataclass, field


@dataclass(order=True, frozen=True)
class Item:
    name: str
    tags: list = field(default_factory=list, compare=False)

    def __post_init__(self):
        if not self.name:
            raise ValueError("no name")


print(Item("a", ["x"]), asdict(Item("b")), Item("a") < Item("b"))
Item("c").name = "d"
