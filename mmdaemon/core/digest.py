"""A fingerprint of everything a run decided: same parameters, state and events must give the same bytes.

It covers (time, commands, decision, inputs, transition, refusals) of every step that led to anything. Of a client id
only the counter counts: bot tag and epoch say whose run it is, not what was decided, and differ between two runs of the
same market. Golden values per market are in the tests; a driver that skips events must reproduce them. See
`docs/DETERMINISM.md`.
"""

from hashlib import blake2b

import msgspec

from mmdaemon.core.engine import NOTHING, Step
from mmdaemon.core.params import Params

_encode = msgspec.msgpack.Encoder().encode


class Digest:
    """Running digest of a sequence of steps."""

    def __init__(self, params: Params) -> None:
        self._hash = blake2b(digest_size=16)
        self._prefix = len(f"mm{params.bot_tag}-{params.run_epoch}-")
        self.steps = 0

    def update(self, mono_ns: int, ts_ns: int, step: Step) -> None:
        """Take in one step. `NOTHING` leaves no trace."""
        if step is NOTHING:
            return
        self.steps += 1
        commands = [msgspec.structs.replace(c, client_id=c.client_id[self._prefix :]) for c in step.commands]
        refusals = [(r.client_id[self._prefix :], r.check, r.detail) for r in step.refusals]
        self._hash.update(_encode((mono_ns, ts_ns, commands, step.decision, step.inputs, step.transition, refusals)))

    def hex(self) -> str:
        return self._hash.hexdigest()
