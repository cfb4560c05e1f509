"""A script with a mistake in its data: `python-executor run fails.py` shows its traceback and exits with 1.

With `--json`, `error_type` is ValueError and `error_line` the line of this file where it came from.
"""

READINGS = ["21.5", "22.1", "n/a", "20.9"]


def mean(readings: list[str]) -> float:
    """The mean of numbers that came as text."""
    return sum(float(reading) for reading in readings) / len(readings)


print(f"{len(READINGS)} readings")
print(f"mean: {mean(READINGS):.1f} °C")
