"""A text that must not be seen: in no log, traceback, dump, metric or journal row."""

from typing import Final, NoReturn

_SHOWN: Final = "<secret>"


class Secret:
    """Holds a text and shows nothing of it. `reveal` is the only way to it, called where it is handed to the wire."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return _SHOWN

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(_SHOWN, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written down")


class Credentials:
    """What one API key is: three texts that a venue gave."""

    __slots__ = ("api_key", "api_passphrase", "api_secret")

    def __init__(self, api_key: Secret, api_secret: Secret, api_passphrase: Secret) -> None:
        self.api_key, self.api_secret, self.api_passphrase = api_key, api_secret, api_passphrase

    def __repr__(self) -> str:
        return f"Credentials({_SHOWN})"
