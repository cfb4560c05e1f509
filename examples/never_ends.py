"""Looks for ever larger primes and never ends. Something else has to end it, and what it printed is kept:

python-executor run never_ends.py --timeout 2     exit code 124
python-executor submit never_ends.py              prints an id, for `python-executor kill ID`: 137
"""

import time
from itertools import count, takewhile


def is_prime(number: int, smaller_primes: list[int]) -> bool:
    """Whether no smaller prime divides it."""
    return all(number % prime for prime in takewhile(lambda prime: prime**2 <= number, smaller_primes))


started = time.monotonic()
primes: list[int] = []
for number in count(2):
    if is_prime(number, primes):
        primes.append(number)
        if len(primes) % 10_000 == 0:
            print(f"{time.monotonic() - started:5.2f} s: prime number {len(primes):,} is {number:,}", flush=True)
