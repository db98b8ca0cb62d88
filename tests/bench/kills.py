"""`python -m tests.bench.kills --n 100`: the kill switch of the real daemon, thrown again and again.

Starts `mmdaemon run` as a process of its own, in real time on the simulated venue with its ordinary latencies (50 ms
each way), and each time waits until both sides are quoted, kills, reads the venue's answer, and resumes with a
reason. The times are the daemon's own evidence from its journal: from the trip to open orders read empty twice
(QUIET). Ends with p50 and p99, and fails if anything rested after one.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track

from mmdaemon.journal.reader import JournalReader
from mmdaemon.ops.control import Answer
from mmdaemon.ops.control_client import call

CONFIG = """
[venue]
in_flight_max_s = 1.0
[quotes]
resume_s = 0.0
[metrics]
port = 0
[run]
crash_loop_starts = 0
"""


async def ask(path: Path, verb: str, **args: str | bool) -> Answer:
    return await call(path, verb, args)


async def until_quoting(path: Path) -> Answer:
    for _ in range(600):
        answer = await ask(path, "status")
        status = answer.status
        if (
            status is not None
            and status.guard == "running"
            and {q.side for q in status.quotes if q.working} == {"buy", "sell"}
        ):
            return answer
        await asyncio.sleep(0.05)
    raise TimeoutError("the daemon did not quote both sides within 30 s")


async def until_resumed(path: Path, reason: str) -> None:
    """Resumes are refused until nothing can land any more."""
    for _ in range(400):
        if (await ask(path, "resume", reason=reason)).ok:
            return
        await asyncio.sleep(0.05)
    raise TimeoutError("not resumed within 20 s")


async def rounds(path: Path, n: int, console: Console) -> int:
    rested = 0
    for i in track(range(n), "kills", console=console):
        before = (await until_quoting(path)).status
        assert before is not None
        assert before.open_orders > 0
        killed = await ask(path, "kill", reason=f"round {i}")
        rested += killed.exit_code != 0
        await until_resumed(path, f"round {i} was quiet")
    return rested


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100)
    n = parser.parse_args().n
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        config = Path(folder) / "kills.toml"
        config.write_text(CONFIG)
        command = [sys.executable, "-m", "mmdaemon", "run", "--config", str(config), "--state-dir", str(state)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MMDAEMON_")}
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as daemon:
            try:
                socket = state / "control.sock"
                deadline = time.monotonic() + 30
                while not socket.exists() and time.monotonic() < deadline:
                    time.sleep(0.05)
                rested = asyncio.run(rounds(socket, n, console))
            finally:
                daemon.send_signal(signal.SIGTERM)
                code = daemon.wait(timeout=60)
        took_ms: list[float] = []
        with JournalReader(state / "journal.sqlite") as journal:
            for row in journal.kills():
                seen = json.loads(row.evidence)
                if row.state == "quiet":
                    took_ms.append((seen["quiet_ns"] - seen["tripped_ns"]) / 1e6)
    took_ms.sort()
    p99 = took_ms[min(len(took_ms) - 1, round(0.99 * len(took_ms)))]
    console.print(
        f"{len(took_ms)} kills, {rested} with something resting; trip to read empty twice: "
        f"p50 {statistics.median(took_ms):.0f} ms, p99 {p99:.0f} ms, most {took_ms[-1]:.0f} ms; daemon exit {code}"
    )
    return 0 if not rested and len(took_ms) == n and code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
