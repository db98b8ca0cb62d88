"""Rows over processes: each a whole daemon in virtual time (`research/session.py`), scored, its journal deleted."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import product
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import NamedTuple

import msgspec
from pydantic import ValidationError

from mmdaemon.core.types import NS
from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.state_dir import open_dir
from mmdaemon.research.ablation import columns as tape_columns
from mmdaemon.research.ablation.fitting import fit
from mmdaemon.research.ablation.results import (
    Prepared,
    Result,
    code_digest,
    columns_path,
    key_of,
    prepared_path,
    read_prepared,
    read_result,
    result_path,
    write,
)
from mmdaemon.research.ablation.rows import BOOK_AGE_MAX_S, BY_NAME, Unfit, cap_and_order_e10
from mmdaemon.research.ablation.score import Bounds, Scorer, Window
from mmdaemon.research.session import Script, play, until_the_end
from mmdaemon.research.simulation.runner import folder
from mmdaemon.settings import Settings
from mmdaemon.settings.model import overlaid
from mmdaemon.tapes.reading import open_tape

FIT_SHARE = 1 / 3
"""Of a recording, from its beginning: what rules are fitted on, and what is not scored."""
LONG_NS = 4 * 3600 * NS
BLOCK_NS, SHORT_BLOCK_NS = 600 * NS, 60 * NS
_TICK_S = 0.5


class Job(NamedTuple):
    tape: str
    fills: str
    row: str

    @property
    def name(self) -> str:
        return f"{self.tape} {self.fills} {self.row}"


class Failed(NamedTuple):
    """A row that could not be played: a defect, or a recording that breaks off."""

    job: Job
    error: BaseException


Told = Callable[[Job, int], None]
"""How far a row is, in ns of its run."""


def prepare(paths: Sequence[Path], name: str, out: Path, hours: float = 0.0, *, any_code: bool = False) -> Prepared:
    """Read a recording once and fit what the rules need, unless that is in `out` already.

    Raises:
        TapeError: the recording cannot be used.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = sorted(file for path in paths for file in (path.iterdir() if path.is_dir() else [path]))
    key = key_of("prepared", [(file.name, file.stat().st_size) for file in files], hours)
    found = read_prepared(prepared_path(out, name))
    is_known = found is not None and found.key == key and (any_code or found.code == code_digest())
    if found is not None and is_known and columns_path(out, name).exists():
        return msgspec.structs.replace(found, paths=tuple(str(path) for path in paths))
    tape = open_tape(paths)
    columns = tape_columns.read(tape, hours)
    tape_columns.save(columns, columns_path(out, name))
    start_ns, end_ns = columns.start_ns, columns.end_ns
    fit_ns = int((end_ns - start_ns) * FIT_SHARE)
    block_ns = BLOCK_NS if end_ns - start_ns >= LONG_NS else SHORT_BLOCK_NS
    age_s = BOOK_AGE_MAX_S.get(tape.instrument.venue)
    settings = Settings(**overlaid({}, {} if age_s is None else {"guard.book_age_max_s": age_s}))
    made = Prepared(
        key=key,
        code=code_digest(),
        name=name,
        paths=tuple(str(path) for path in paths),
        hours=hours,
        instrument=tape.instrument,
        provenance=tape.provenance,
        learned=Window(start_ns, start_ns + fit_ns, block_ns),
        scored=Window(start_ns + fit_ns, end_ns, block_ns),
        whole=Window(start_ns, end_ns, block_ns),
        fitted=fit(open_tape(paths), settings, fit_ns),
    )
    write(prepared_path(out, name), made)
    return made


def jobs_of(tapes: Sequence[str], fills: Sequence[str], rows: Sequence[str]) -> list[Job]:
    """In the order in which they are worth having."""
    return [Job(tape, each, row) for each, tape, row in product(fills, tapes, rows)]


def plan(job: Job, prepared: Prepared) -> tuple[str, Settings | str]:
    """(key, settings); in their place why it cannot be played."""
    row = BY_NAME[job.row]
    try:
        settings = row.settings(prepared.fitted, job.fills, prepared.instrument.venue)
        row.strategy(prepared.fitted)
    except Unfit as unfit:
        return key_of(prepared.key, job, str(unfit)), str(unfit)
    except ValidationError as wrong:
        why = "; ".join(str(each["msg"]).removeprefix("Value error, ") for each in wrong.errors())
        return key_of(prepared.key, job, why), why
    made_for_it = prepared.fitted if row.make is not None else None
    return key_of(prepared.key, job, settings.config_hash, made_for_it, row.label if row.make else ""), settings


def play_row(job: Job, prepared: Prepared, out: Path, told: Told) -> Result:
    """Play one row, score it, and write its result.

    Raises:
        TapeError: the recording breaks off.
        Whatever a defect raises.
    """
    key, planned = plan(job, prepared)
    if isinstance(planned, str):
        result = Result(key=key, code=code_digest(), tape=job.tape, row=job.row, fills=job.fills, refused=planned)
    else:
        result = _played(job, prepared, out, told, key, planned)
    write(result_path(out, job.tape, job.fills, job.row), result)
    return result


def _played(job: Job, prepared: Prepared, out: Path, told: Told, key: str, settings: Settings) -> Result:
    begun = time.process_time()
    row, epoch_script = BY_NAME[job.row], _script(job, prepared, told)
    columns = tape_columns.load(columns_path(out, job.tape))
    with folder() as path:
        directory = open_dir(path, {}).lock()
        try:
            source = open_tape([Path(each) for each in prepared.paths])
            play(settings, directory, source, epoch_script, strategy=row.strategy(prepared.fitted))
            with JournalReader(directory.journal_path) as journal:
                run = journal.run()
                if run is None:
                    raise JournalUnreadable(f"{job.name}: the run left no journal")
                scorer = Scorer(journal, run, prepared.instrument, columns)
                bounds = Bounds(*cap_and_order_e10(settings))
                digest = journal.db.execute("SELECT digest FROM digests WHERE epoch = ?", (run.epoch,)).fetchone()
                stops = journal.kills()
                return Result(
                    key=key,
                    code=code_digest(),
                    tape=job.tape,
                    row=job.row,
                    fills=job.fills,
                    over=row.values(prepared.fitted, job.fills, prepared.instrument.venue),
                    config_hash=settings.config_hash,
                    ended=run.end_reason or "",
                    stopped=stops[0].reason if stops else "",
                    learned=scorer.score(prepared.learned, bounds),
                    scored=scorer.score(prepared.scored, bounds),
                    whole=scorer.score(prepared.whole, bounds),
                    digest=digest[0].hex() if digest else "",
                    cpu_s=time.process_time() - begun,
                )
        finally:
            directory.release()


def _script(job: Job, prepared: Prepared, told: Told) -> Script:
    def progress(passed_ns: int, _daemon: Daemon) -> None:
        told(job, passed_ns)

    return until_the_end(prepared.hours * 3600, progress)


# --- processes --------------------------------------------------------------------------------------------------------

_queue: "SimpleQueue[tuple[Job, int]] | None" = None


def _begin(queue: "SimpleQueue[tuple[Job, int]]") -> None:
    global _queue  # noqa: PLW0603 - how a process of the pool learns of it
    _queue = queue


def _tell(job: Job, passed_ns: int) -> None:
    if _queue is not None:
        _queue.put((job, passed_ns))


def _in_process(job: Job, prepared: Prepared, out: Path) -> Result:
    return play_row(job, prepared, out, _tell)


def known(
    jobs: Sequence[Job], tapes: dict[str, Prepared], out: Path, *, any_code: bool = False
) -> tuple[list[Result], list[Job]]:
    """(results that are in `out` and of today, jobs without one). `any_code`: of the same settings will do."""
    results: list[Result] = []
    left: list[Job] = []
    for job in jobs:
        found = read_result(result_path(out, job.tape, job.fills, job.row))
        is_of_today = found is not None and (any_code or found.code == code_digest())
        if found is not None and is_of_today and found.key == plan(job, tapes[job.tape])[0]:
            results.append(found)
        else:
            left.append(job)
    return results, left


def play_rows(
    jobs: Sequence[Job], tapes: dict[str, Prepared], out: Path, processes: int, told: Told
) -> Iterator[Result | Failed]:
    """Each as it is done; in this process where there are 0 others, and then a defect is raised and not a `Failed`.
    What was not begun is left when the caller stops; what was is stopped."""
    if not processes:
        for job in jobs:
            yield play_row(job, tapes[job.tape], out, told)
        return
    context = multiprocessing.get_context("spawn")
    queue: SimpleQueue[tuple[Job, int]] = context.SimpleQueue()
    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin, initargs=(queue,), max_tasks_per_child=1
    )
    left = iter(jobs)
    at_work: dict[Future[Result], Job] = {}

    def begin() -> None:
        job = next(left, None)
        if job is not None:
            at_work[pool.submit(_in_process, job, tapes[job.tape], out)] = job

    try:
        for _ in range(processes):
            begin()
        while at_work:
            done, _ = wait(at_work, timeout=_TICK_S, return_when=FIRST_COMPLETED)
            while not queue.empty():
                told(*queue.get())
            for future in done:
                job = at_work.pop(future)
                error = future.exception()
                begin()
                yield future.result() if error is None else Failed(job, error)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if at_work:
            for process in multiprocessing.active_children():
                process.terminate()
