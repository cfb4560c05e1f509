class Bad:
    def __str__(self):
        raise ValueError("no")


raise SystemExit(Bad())
