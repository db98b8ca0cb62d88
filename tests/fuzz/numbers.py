"""Numbers and words that nobody should send, from a seeded generator."""

import math
from random import Random

Number = int | float

EDGES: tuple[Number, ...] = (
    *(0, 1, -1, 2, 7, -7, 0.0, -0.0, 0.5, -0.5, 1.0, 650_000.0, 5e-324, 1e-9, 1e16, 1e18, 1.7e308, -1.7e308),
    *(math.nan, math.inf, -math.inf),
    *(
        2**31,
        2**32,
        2**48 - 1,
        2**48,
        2**48 + 1,
        2**53,
        2**62,
        2**63 - 1,
        2**63,
        2**64,
        -(2**63),
        -(2**63) - 1,
        -(2**48),
    ),
    *(10**30, -(10**30), 10**400, -(10**400)),
)
WORDS = (
    *("", " ", "0", "-1", "nan", "null", "\x00", "\u202e", "\ud7ff", "é", "🜁" * 9, "x" * 5_000, "../../etc/passwd"),
    *("mmabcd-1-1", "mmabcd-0-1", "mmabcd--1-1", "mmabcd-1-k1", "mmzzzz-1-1", "DROP TABLE fills;", "{}", "%s%n", "'"),
)


def any_number(rng: Random) -> Number:
    """Any at all: edges of every range, what is no number, and numbers near real ones."""
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(EDGES)
    if kind < 0.8:
        return rng.randint(-20, 1_000_000)
    if kind < 0.9:
        return rng.getrandbits(rng.randint(1, 200)) * rng.choice((1, -1))
    return rng.uniform(-1e6, 1e6)


def any_float(rng: Random) -> float:
    """Any float."""
    while True:
        number = any_number(rng)
        if isinstance(number, float) or abs(number) < 2**63:
            return float(number)


def mostly(rng: Random, likely: Number, share: float = 0.5) -> Number:
    """That number in so many cases, else any."""
    return likely if rng.random() < share else any_number(rng)


def any_word(rng: Random) -> str:
    if rng.random() < 0.7:
        return rng.choice(WORDS)
    return "".join(chr(rng.randrange(0xD800)) for _ in range(rng.randrange(12)))
