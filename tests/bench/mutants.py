"""`python -m tests.bench.mutants --n 300 --seed 1`: small defects put into the safety code, and who sees them.

`tests/bench/mutating.py` makes the defects. A seeded sample of them is tried in copies of the tree, one mutant at a
time, never in the tree itself. First come the tests that mirror the module, for what they let live the other tests of
core and daemon, and for what is left whole daemons under faults. Each run is a process group of its own with a limit of
time and of address space, Hypothesis with a fixed seed and without shrinking, so that the verdict is the same twice.

Without a mutant each step must pass, which is tried first. Prints a table by module; `results.jsonl` (who killed what)
and `survivors.diff` are in `--out`. `--again results.jsonl` tries only those that survived there, by their ids, which
outlast a change elsewhere in the module. What survives is explained in docs/MUTATION.md.
"""

import argparse
import difflib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.mutating import Mutant, mutants_of

ROOT: Final = Path(__file__).resolve().parents[2]
NOT_COPIED: Final = (".*", "build", "dist", "__pycache__")
ADDRESS_MAX: Final = 4 << 30
SLACK_S: Final = 60.0
"""A step may take five times what it takes without a mutant, and so much more: the machine is shared."""

KEPT_WIDE: Final = ("sender", "kill_switch", "direct", "status", "operator", "record", "narrowing", "supervisor")
DAEMON: Final = tuple(f"tests/daemon/test_{name}.py" for name in (*KEPT_WIDE, "reconcile", "breaks", "assertions"))
MIRRORS: Final[dict[str, tuple[str, ...]]] = {
    "mmdaemon/core/guard.py": ("tests/core/test_guard.py", "tests/core/test_reasons.py"),
    "mmdaemon/core/orders.py": ("tests/core/test_orders.py",),
    "mmdaemon/core/limits.py": ("tests/core/test_limits.py", "tests/core/test_engine.py"),
    "mmdaemon/core/position.py": ("tests/core/test_position.py",),
    "mmdaemon/core/apply.py": ("tests/core/test_apply.py", "tests/core/test_engine.py", "tests/core/test_guard.py"),
    "mmdaemon/daemon/kill_switch.py": ("tests/daemon/test_kill_switch.py",),
    "mmdaemon/daemon/sweep.py": ("tests/daemon/test_sweep.py", "tests/daemon/test_kill_switch.py"),
}
LIVES_OFF: Final[dict[str, tuple[str, ...]]] = {
    # What of a module is in question, where it is not all of it: the folding of facts that the others live off.
    "mmdaemon/core/apply.py": (
        "apply",
        "_on_mark",
        "_is_account",
        "_on_health",
        "_on_fill",
        "_sample_equity",
        "_roll_day",
        "_clock_is_true",
        "_on_link",
        "_on_reconciled",
        "_on_operator",
    ),
}
STEPS: Final = ("mirror", "wider", "simulation")
_NO_VERDICT: Final = 99

_CHILD: Final = f"""
import sys
from pathlib import Path
import mmdaemon
import pytest
if not Path(mmdaemon.__file__).is_relative_to(Path.cwd()):
    sys.exit({_NO_VERDICT})
class Repeatable:
    def pytest_configure(self):
        from hypothesis import Phase, settings
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", phases=phases, database=None, derandomize=True)
        settings.load_profile("mutants")
sys.exit(pytest.main(sys.argv[1:], [Repeatable()]))
"""
_PYTEST: Final = ("-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--no-header")
_SIMULATE: Final = ("-m", "mmdaemon", "simulate", "--first-seed", "1", "--jobs", "1", "--shrink-s", "0")


class Verdict(msgspec.Struct):
    """What became of a mutant. `step` is where it died, empty for one that lives; `by` the first test that failed."""

    id: str
    module: str
    what: str
    step: str = ""
    by: str = ""
    seconds: float = 0.0


class Harness:
    """Copies of the tree, one a worker, and how long each step takes without a mutant."""

    def __init__(self, folder: Path, jobs: int, seeds: int, hours: float) -> None:
        self.seeds, self.hours = seeds, hours
        self.copies: queue.Queue[Path] = queue.Queue()
        self.base_s: dict[tuple[str, str], float] = {}
        # One reading of the tree: it may change at any time, and all workers are to try the same.
        first = folder / "tree-0"
        shutil.copytree(ROOT, first, ignore=shutil.ignore_patterns(*NOT_COPIED))
        for number in range(1, jobs):
            shutil.copytree(first, folder / f"tree-{number}")
        for number in range(jobs):
            self.copies.put(folder / f"tree-{number}")
        self.sources = {module: (first / module).read_text(encoding="utf-8") for module in MIRRORS}

    def arguments(self, step: str, module: str) -> Sequence[str]:
        if step == "simulation":
            return (*_SIMULATE, "--seeds", str(self.seeds), "--hours", str(self.hours), "--out", ".simulated")
        files = MIRRORS[module]
        if step == "wider":  # its own side first: whoever lives off it is nearer there
            files = ("tests/core", *DAEMON) if "/core/" in module else (*DAEMON, "tests/core")
        return ("-c", _CHILD, *_PYTEST, *files)

    def prove(self, step: str, modules: set[str]) -> None:
        """The step passes without a mutant, and how long that takes. Raises RuntimeError where it does not."""
        copy = self.copies.get()
        took_s: dict[Sequence[str], float] = {}
        for module in sorted(modules):
            arguments = self.arguments(step, module)
            if arguments not in took_s:
                began = time.monotonic()
                said = self._run(copy, arguments, 1_800.0)
                if said:
                    raise RuntimeError(f"{step} of {module} does not pass without a mutant: {said}")
                took_s[arguments] = time.monotonic() - began
            self.base_s[step, module] = took_s[arguments]
        self.copies.put(copy)

    def attempt(self, step: str, mutant: Mutant) -> tuple[str, float]:
        """Who kills it in this step (empty: nobody) and in how many seconds."""
        copy = self.copies.get()
        path = copy / mutant.module
        began = time.monotonic()
        try:
            write(path, mutant.source)
            limit_s = SLACK_S + 5 * self.base_s[step, mutant.module]
            return self._run(copy, self.arguments(step, mutant.module), limit_s), time.monotonic() - began
        finally:
            write(path, self.sources[mutant.module])
            self.copies.put(copy)

    def _run(self, copy: Path, arguments: Sequence[str], limit_s: float) -> str:
        """Empty: passed. Else the test that failed, or what else ended it."""
        limits = ("prlimit", f"--as={ADDRESS_MAX}", "--core=0")
        # A session of its own, so that the limit reaches the processes that tests begin.
        process = subprocess.Popen(
            (*limits, sys.executable, *arguments),
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy), "PYTHONHASHSEED": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return "time limit"
        if process.returncode == 0:
            return ""
        if process.returncode in (4, 5, _NO_VERDICT):
            raise RuntimeError(f"no verdict (exit code {process.returncode}):\n{output[-2_000:]}")
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE) or re.search(r"(invariant \d+)", output)
        if process.returncode == 1 and not failed:
            raise RuntimeError(f"it failed and named no test:\n{output[-2_000:]}")
        return failed[1] if failed else f"exit code {process.returncode}"


def write(path: Path, source: str) -> None:
    """Compiled files are known by second and size, and a mutant may have both of the one before it."""
    path.write_text(source, encoding="utf-8")
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def diff_of(mutant: Mutant, before: str) -> str:
    lines = (before.splitlines(keepends=True), mutant.source.splitlines(keepends=True))
    return "".join(difflib.unified_diff(*lines, mutant.module, mutant.id, n=3))


def table_of(verdicts: Sequence[Verdict]) -> Table:
    table = Table()
    for column in ("module", "mutants", *STEPS, "survive", "killed"):
        table.add_column(column, justify="left" if column == "module" else "right")
    for module in (*MIRRORS, ""):
        mine = [verdict for verdict in verdicts if module in ("", verdict.module)]
        if mine:
            dead = Counter(verdict.step for verdict in mine)
            share = f"{1 - dead[''] / len(mine):.1%}"
            steps = [str(dead[step]) for step in STEPS]
            table.add_row(module.removeprefix("mmdaemon/") or "all", str(len(mine)), *steps, str(dead[""]), share)
    return table


def save(verdicts: list[Verdict], diffs: dict[str, str], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(verdicts))
    living = [f"# {v.id} {v.module}: {v.what}\n{diffs[v.id]}\n" for v in verdicts if not v.step]
    (out / "survivors.diff").write_text("".join(living), encoding="utf-8")


def hunt(harness: Harness, chosen: list[Mutant], steps: Sequence[str], jobs: int, out: Path) -> list[Verdict]:
    """All through one step before any goes through the next, so that survivors can be read early."""
    console = Console()
    verdicts = {m.id: Verdict(m.id, m.module, m.what) for m in chosen}
    sources = harness.sources
    for step in steps:
        alive = [mutant for mutant in chosen if not verdicts[mutant.id].step]
        harness.prove(step, {mutant.module for mutant in alive})
        took = ", ".join(f"{Path(m).stem} {s:.0f} s" for (name, m), s in harness.base_s.items() if name == step)
        console.print(f"{step}: {len(alive)} mutants; without one: {took}", markup=False, soft_wrap=True)

        def tried(mutant: Mutant, step: str = step) -> Mutant:
            by, seconds = harness.attempt(step, mutant)
            verdict = verdicts[mutant.id]
            verdict.step, verdict.by = (step, by) if by else ("", "")
            verdict.seconds += seconds
            return mutant

        try:
            with ThreadPoolExecutor(jobs) as pool:
                for done, mutant in enumerate(pool.map(tried, alive), 1):
                    verdict = verdicts[mutant.id]
                    line = f"{step} {done}/{len(alive)} {mutant.id} {verdict.by or 'LIVES'} {verdict.seconds:.0f} s"
                    said = f"{line}  {mutant.module}: {mutant.what}"
                    console.print(said, markup=False, soft_wrap=True, highlight=False)
        finally:
            save(
                list(verdicts.values()), {mutant.id: diff_of(mutant, sources[mutant.module]) for mutant in chosen}, out
            )
    return list(verdicts.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=300, help="how many; 0 = all there are")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modules", nargs="*", default=list(MIRRORS), choices=list(MIRRORS), metavar="MODULE")
    parser.add_argument("--steps", nargs="*", default=list(STEPS), choices=STEPS)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--again", type=Path, help="a results.jsonl: only those that survived there")
    parser.add_argument("--list", action="store_true", help="name them and try none")
    parser.add_argument("--seeds", type=int, default=2, help="of the simulation")
    parser.add_argument("--hours", type=float, default=0.3, help="of the simulation, a seed")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        harness = Harness(Path(folder), asked.jobs, asked.seeds, asked.hours)
        every = [m for name in asked.modules for m in mutants_of(name, harness.sources[name], LIVES_OFF.get(name))]
        if asked.again:
            before = msgspec.json.Decoder(Verdict).decode_lines(asked.again.read_bytes())
            ids = {verdict.id for verdict in before if not verdict.step}
            chosen = [mutant for mutant in every if mutant.id in ids]
            print(f"{len(ids)} survived there, {len(chosen)} of them are still to be made")
        else:
            n = min(asked.n or len(every), len(every))
            chosen = [every[i] for i in sorted(Random(asked.seed).sample(range(len(every)), n))]
        print(f"{len(chosen)} of {len(every)} mutants, seed {asked.seed}")
        if asked.list:
            print("\n".join(f"{m.id} {m.module}: {m.what}" for m in chosen))
            return 0
        verdicts = hunt(harness, chosen, asked.steps, asked.jobs, asked.out)
    Console().print(table_of(verdicts))
    print(f"{asked.out / 'survivors.diff'}: those that live")
    return 0


if __name__ == "__main__":
    sys.exit(main())
