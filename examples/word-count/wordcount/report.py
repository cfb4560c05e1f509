"""From numbers to something to look at."""

from collections.abc import Sequence


def table(rows: Sequence[tuple[str, int]], width: int = 30) -> str:
    """One line a word, the most frequent one with the longest bar."""
    most = rows[0][1]
    return "\n".join(f"{word:<8} {count:>3}  {'█' * round(count * width / most)}" for word, count in rows)
