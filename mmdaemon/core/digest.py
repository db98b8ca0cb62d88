"""A fingerprint of everything a run decided: same parameters, state and events must give the same bytes.

It covers (time, commands, decision, inputs, transition, refusals) of every step that led to anything. Golden values
per market are in the tests; a driver that skips events must reproduce them. See `docs/DETERMINISM.md`.
"""

from hashlib import blake2b

import msgspec

from mmdaemon.core.engine import NOTHING, Step

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode


class Digest:
    """Running digest of a sequence of steps."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self.steps = 0

    def update(self, mono_ns: int, ts_ns: int, step: Step) -> None:
        if step is NOTHING:
            return
        self.steps += 1
        self._hash.update(_encode((mono_ns, ts_ns, step)))

    def hex(self) -> str:
        return self._hash.hexdigest()
