#!/usr/bin/env python3
# -*- coding: utf-8 -*-
"""Count words.

A script as language models write them.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from typing import Dict, List, Optional

logging.basicConfig(level=logging.INFO, format="%(levelname)s - %(message)s")
logger = logging.getLogger(__name__)


def count_words(text: str, top: Optional[int] = None) -> Dict[str, int]:
    """Count the words of a text."""
    return dict(Counter(text.lower().split()).most_common(top))


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--top", type=int, default=2)
    args = parser.parse_args(argv)
    logger.info("Counting words...")
    for word, count in count_words("the cat and the dog and the bird", args.top).items():
        print(f"{word:<10} {count:>3}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
