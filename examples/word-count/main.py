"""Counts the words of the texts in `texts/`: `python-executor run word-count` prints the ten most frequent ones."""

from pathlib import Path

from wordcount.counting import count_words
from wordcount.report import table

texts = sorted(Path(__file__).parent.glob("texts/*.txt"))
counts = count_words(path.read_text(encoding="utf-8") for path in texts)

print(f"{counts.total()} words in {len(texts)} texts, {len(counts)} of them different\n")
print(table(counts.most_common(10)))
