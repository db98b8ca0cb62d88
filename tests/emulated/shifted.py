"""A real clock that shows another time of day, so that midnight and a settlement come within a test."""

import asyncio
import time

from mmdaemon.clock import RealClock


class ShiftedClock(RealClock):
    """UTC runs as it does, from another moment on. Ages and timers are the machine's. Made within a loop."""

    def __init__(self, start_ts_ns: int) -> None:
        super().__init__(asyncio.get_running_loop())
        shift_ns = start_ts_ns - time.time_ns()

        def wall_ns() -> int:
            return time.time_ns() + shift_ns

        self.wall_ns = wall_ns
