"""Four months of a coffee roaster's orders: CSV files into SQLite, SQL and statistics into a report.

`python-executor run sales` prints revenue by month and by coffee, what an order is worth, and how price and
quantity go together.
"""

import csv
import sqlite3
import statistics
from pathlib import Path

SCHEMA = "CREATE TABLE orders (day TEXT, coffee TEXT, kilos REAL, price REAL)"
BY_MONTH = "SELECT substr(day, 1, 7), count(*), sum(kilos * price) FROM orders GROUP BY 1 ORDER BY 1"
BY_COFFEE = "SELECT coffee, sum(kilos), sum(kilos * price) AS revenue FROM orders GROUP BY 1 ORDER BY revenue DESC"


def load(directory: Path) -> sqlite3.Connection:
    """All CSV files of the directory in one table."""
    database = sqlite3.connect("orders.sqlite3")  # a file in /work, gone with the execution
    database.execute(SCHEMA)
    for path in sorted(directory.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            database.executemany("INSERT INTO orders VALUES (:day, :coffee, :kilos, :price)", csv.DictReader(file))
    return database


def main() -> None:
    """The report."""
    database = load(Path(__file__).parent / "data")

    print("Month     orders   revenue")
    for month, orders, revenue in database.execute(BY_MONTH):
        print(f"{month}   {orders:>6} {revenue:>9,.2f}")

    print("\nCoffee        kilos   revenue")
    for coffee, kilos, revenue in database.execute(BY_COFFEE):
        print(f"{coffee:<11} {kilos:>7.1f} {revenue:>9,.2f}")

    kilos, prices = zip(*database.execute("SELECT kilos, price FROM orders"), strict=True)
    values = [weight * price for weight, price in zip(kilos, prices, strict=True)]
    low, middle, high = statistics.quantiles(values)
    print(f"\nAn order is worth {statistics.mean(values):.2f} on average; half of them {low:.2f} to {high:.2f},")
    print(f"the median is {middle:.2f}. Price and quantity correlate by {statistics.correlation(kilos, prices):+.2f}.")


main()
