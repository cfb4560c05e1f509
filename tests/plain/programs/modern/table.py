rows = [("Name", "Qty", "Price"), ("Apple", 3, 1.5), ("Bänana", 12, 0.25)]
for name, qty, price in rows:
    print(f"│ {name:<10} │ {qty:>5} │ {price:>8} │")
