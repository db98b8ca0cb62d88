"""The gate: the last line before the wire. A latch that any thread may close and only a resume opens.

It is no part of `State`, because it must hold when the core does not run. Soft states never touch it. Closed, it
passes cancels and reduce-only orders alone; what it refuses comes back as an event (`sender.py`).
"""

from mmdaemon.core.commands import Cancel, Command, Place


class Gate:
    """Open from the start unless the journal holds a latch. Assigning one attribute is atomic, so no lock is needed."""

    def __init__(self, closed_because: str = "") -> None:
        self._because = closed_because

    @property
    def closed_because(self) -> str:
        """Empty while open."""
        return self._because

    def close(self, because: str) -> None:
        """Close it. The first reason stays."""
        if not self._because:
            self._because = because or "closed"

    def open(self) -> None:
        """Only the operator's resume calls this, after a clean reconcile."""
        self._because = ""

    def passes(self, command: Command) -> bool:
        if not self._because or type(command) is Cancel:
            return True
        return type(command) is Place and command.reduce_only
