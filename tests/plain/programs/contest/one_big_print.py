print("\n".join(map(str, range(100000))))
