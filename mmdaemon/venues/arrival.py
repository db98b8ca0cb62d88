"""When a fact came to us: whoever receives it says so."""

from typing import TypeVar

import msgspec

from mmdaemon.clock import Clock

F = TypeVar("F", bound=msgspec.Struct)


def received(clock: Clock, fact: F) -> F:
    """The same fact, with this moment as that of its receipt. It has `mono_ns` and `ts_ns`."""
    return msgspec.structs.replace(fact, mono_ns=clock.mono_ns(), ts_ns=clock.wall_ns())
