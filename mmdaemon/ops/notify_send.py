"""The process that sends one message by apprise, and ends: `python -m mmdaemon.ops.notify_send`.

    stdin   {"urls": [...], "title": "...", "body": "..."}       without a body the addresses are only looked at
    stdout  [{"scheme": "slack", "ok": false, "why": "HTTP 404"}, ...]    in the order of the addresses

A process of its own, because apprise is synchronous, brings requests and some 50 MB with it, and has a plugin of its
own for each service: whatever one of them does, hang or crash, the daemon is not touched, and can end it. Addresses are
secrets: they come by a pipe, never as an argument or a variable, and what is said of them are this module's own words.
"""

import importlib
import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

import msgspec

UNKNOWN_ADDRESS: Final = "not an address that apprise can send to"
_NICE: Final = 10
_HTTP: Final = re.compile(r"\berror=(\d{3})\b")
_WORDS: Final[Mapping[str, str]] = {
    "timed out": "timed out",
    "timeout": "timed out",
    "refused": "connection refused",
    "certificate": "its certificate is not accepted",
    "resolve": "its name is not known",
    "name or service": "its name is not known",
    "unreachable": "not to be reached",
}
"""Of what apprise logs, in lower case, and what is made of it: its own text may have the address in it."""


class Errand(msgspec.Struct, frozen=True):
    """What is to be sent, and to whom."""

    urls: list[str]
    title: str = ""
    body: str = ""


class Delivered(msgspec.Struct, frozen=True):
    """What became of it at one address. `why` is empty where it was taken."""

    scheme: str
    ok: bool
    why: str = ""


class _Heard(logging.Handler):
    """What apprise says, kept in memory until the reason was read out of it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage().lower() + "\n"


def deliver(errand: Errand) -> list[Delivered]:
    """Send it to each in turn. Blocking: apprise waits some seconds for each."""
    # Not above: the daemon has this module's words, and does not pay for apprise, whose types are half known.
    apprise: Any = importlib.import_module("apprise")

    heard = _Heard()
    logger = logging.getLogger("apprise")
    logger.handlers, logger.propagate = [heard], False
    logger.setLevel(logging.DEBUG)
    asset = apprise.AppriseAsset(secure_logging=True, async_mode=False, app_id="mmdaemon")
    found: list[Delivered] = []
    for url in errand.urls:
        heard.text = ""
        target = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
        if not isinstance(target, apprise.NotifyBase):
            found.append(Delivered(scheme_of(url), ok=False, why=UNKNOWN_ADDRESS))
            continue
        messenger = apprise.Apprise(asset=asset)
        messenger.add(target)
        # As text, so that it is escaped for a service that takes HTML or markdown.
        taken = not errand.body or messenger.notify(errand.body, errand.title, body_format=apprise.NotifyFormat.TEXT)
        found.append(Delivered(scheme_of(url), ok=bool(taken), why="" if taken else _why(heard.text)))
    return found


def scheme_of(url: str) -> str:
    """The one part of an address that is no secret."""
    scheme = url.partition("://")[0]
    return scheme.lower() if re.fullmatch(r"[A-Za-z][A-Za-z0-9]{1,24}", scheme) and "://" in url else "?"


def _why(text: str) -> str:
    if found := _HTTP.search(text):
        return f"it answered HTTP {found[1]}"
    return next((said for word, said in _WORDS.items() if word in text), "not taken, and apprise does not say why")


def main() -> int:
    """Read the errand, do it, and say what became of it. 0, or 70 by a traceback that nobody reads."""
    os.nice(_NICE)
    errand = msgspec.json.decode(sys.stdin.buffer.read(), type=Errand)
    told = os.dup(1)
    os.dup2(2, 1)  # whatever a plugin prints is no answer
    with os.fdopen(told, "wb") as out:
        out.write(msgspec.json.encode(deliver(errand)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
