from pathlib import Path

path = Path("a/b/c.txt")
path.parent.mkdir(parents=True)
path.write_text("é", encoding="utf-8")
print(sorted(str(p) for p in Path().rglob("*")), path.read_bytes(), path.resolve(), path.stat().st_size, Path.home(), Path.cwd())
Path("missing").read_text()
