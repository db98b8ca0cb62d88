"""What is wrong with a configuration, and what was probably meant.

A problem names the setting, where its value came from, the value, the reason and the nearest thing that would do. All
problems of a configuration are found before any is reported. A value that may be a secret is never repeated.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final, NamedTuple

UNITS: Final[dict[str, str]] = {
    "_s": "seconds",
    "_bps": "bps of price (1e-4)",
    "_fraction": "a fraction of one",
    "_quote": "quote currency",
    "_lots": "lots",
    "_per_minute": "a minute",
    "_hour_utc": "hour of the day, UTC",
}
"""What the end of a setting's name says of its number."""

FOREIGN_UNITS: Final = (
    "_seconds", "_second", "_sec", "_ms", "_us", "_ns", "_minutes", "_min", "_m", "_hours", "_hour", "_h", "_days",
    "_bp", "_pct", "_percent", "_ratio", "_share", "_frac", "_ticks", "_usd", "_usdt", "_e10", "_utc",
)  # fmt: skip
SECRET_WORDS: Final = (
    "key", "keys", "apikey", "secret", "secrets", "passphrase", "password", "passwd", "token", "tokens", "credential",
    "credentials", "signature", "webhook", "mnemonic",
)  # fmt: skip
SECRET_VALUE: Final = re.compile(r"(bg_[0-9a-zA-Z]{16,}|[0-9a-fA-F]{32,})")
"""How exchanges write keys and secrets."""
CREDENTIALS: Final = (
    "keys are files that systemd hands over (LoadCredential=bitget_api_key, bitget_api_secret, bitget_api_passphrase); "
    "take it out, and change it at the exchange"
)


class Problem(NamedTuple):
    """One thing wrong. `value` is text as it may be shown; `nearest` says what was probably meant, if anything."""

    path: str
    origin: str
    """Where the value came from: a file's path, a variable's name, "command line", "preset", "default"."""
    value: str
    reason: str
    nearest: str = ""

    def __str__(self) -> str:
        what = f"{self.path} = {self.value}" if self.value else self.path
        hint = f"; {self.nearest}" if self.nearest else ""
        return f"{what} ({self.origin}): {self.reason}{hint}"


class ConfigError(Exception):
    """The configuration cannot be used. Holds every problem found; the command line exits with 78."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def looks_secret(path: str) -> bool:
    """Whether a name may hold a key or credential, also when misspelt ("api_key", "passphrse")."""
    words = path.lower().replace("-", "_").replace(".", "_").split("_")
    return any(get_close_matches(word, SECRET_WORDS, n=1, cutoff=0.85) for word in words if len(word) > 2)


def is_secret(value: object) -> bool:
    """Whether a value looks like a key, under whatever name it stands."""
    return isinstance(value, str) and SECRET_VALUE.fullmatch(value.strip()) is not None


def stem(key: str) -> str:
    """A setting's name without its unit."""
    for suffix in sorted((*UNITS, *FOREIGN_UNITS), key=len, reverse=True):
        if key.endswith(suffix) and len(key) > len(suffix):
            return key.removesuffix(suffix)
    return key


def unit_of(key: str) -> str:
    """The unit that a setting's name states, or nothing."""
    return next((text for suffix, text in UNITS.items() if key.endswith(suffix)), "")


def nearest_key(path: str, known: Iterable[str]) -> str:
    """What an unknown key was probably meant to be, with its unit, as a hint; empty where nothing is near."""
    found = _nearest(path, list(known))
    unit = unit_of(found)
    return f"did you mean {found}?{f' Its unit is {unit}' if unit else ''}" if found else ""


def _nearest(path: str, names: list[str]) -> str:
    """In this order: the same name with another unit, the same name in another table, a similar one, a similar path."""
    section, _, key = path.rpartition(".")
    beside = {name.rpartition(".")[2]: name for name in names if name.rpartition(".")[0] == section}
    if near := [name for leaf, name in beside.items() if stem(leaf) == stem(key)]:
        return near[0]
    if elsewhere := [name for name in names if name.rpartition(".")[2] == key]:
        return elsewhere[0]
    if similar := get_close_matches(key, beside, n=1, cutoff=0.6):
        return beside[similar[0]]
    return next(iter(get_close_matches(path, names, n=1, cutoff=0.6)), "")


def unit_hint(key: str, value: float, low: float, high: float) -> str:
    """Whether a number outside its bounds would lie within them in another unit, as a hint; else empty."""
    guesses: tuple[tuple[float, str], ...] = ()
    unit = ""
    if key.endswith("_s"):
        unit, guesses = "in seconds", ((1e-3, "milliseconds"), (1e-9, "nanoseconds"), (60.0, "minutes"))
    elif key.endswith(("_fraction", "_probability", "_quantile")):
        unit, guesses = "a fraction", ((1e-2, "percent"), (1e-4, "bps"))
    elif key.endswith("_bps"):
        unit, guesses = "in bps", ((1e4, "a fraction of price"), (1e2, "percent"))
    for factor, looks_like in guesses:
        meant = value * factor
        if factor < 1 and 0 < value <= 1 and unit == "a fraction":
            continue  # a fraction already, and too large a one
        if low <= meant <= high and meant:
            return f"it looks like {looks_like}: this setting is {unit}, write {meant:.6g}"
    return ""
