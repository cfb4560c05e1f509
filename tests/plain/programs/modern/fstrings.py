name, value, width = "x", 3.14159, 10
print(f"{name=} {value:.2f} {value:>{width}.1f}| {1_000_000:,} {255:#x} {'é'!a} {{}}")
