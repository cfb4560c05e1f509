def make():
    class Inner(Exception):
        pass

    return Inner


raise make()("qualified")
