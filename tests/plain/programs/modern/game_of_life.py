grid = {(1, 0), (2, 1), (0, 2), (1, 2), (2, 2)}
for _ in range(4):
    near = {}
    for x, y in grid:
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                if dx or dy:
                    near[x + dx, y + dy] = near.get((x + dx, y + dy), 0) + 1
    grid = {cell for cell, count in near.items() if count == 3 or (count == 2 and cell in grid)}
print(sorted(grid))
