"""From texts to numbers."""

import re
from collections import Counter
from collections.abc import Iterable

WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs in all the texts together; case does not matter."""
    return Counter(word for text in texts for word in WORD.findall(text.lower()))
