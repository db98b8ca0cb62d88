"""`mmdaemon tape`: what a recording is worth, and the same recording in another format.

Both play the recording to its end, so that a broken one is found here and not by a run.
"""

import os
import re
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli.console import Console
from mmdaemon.cli.telling import telling
from mmdaemon.core.types import E10
from mmdaemon.tapes.playing import crossed_warning, share_of
from mmdaemon.tapes.reading import open_recording, with_extra
from mmdaemon.tapes.records import Facts, Recording
from mmdaemon.tapes.rows import TapeError, counted
from mmdaemon.tapes.steps import Steps
from mmdaemon.tapes.survey import Latency, Quantiles, Survey, survey

app = App(name="tape", help="Look at a recorded market, or convert it.", help_format="plaintext")
"""Registered by name in `main.VERBS`, and imported only when the verb is called."""

SHOWN = 20
"""Dropped rows that are described; --json has all that were kept."""


class To(StrEnum):
    PARQUET = "parquet"
    NPZ = "npz"
    TARDIS = "tardis"


_TARDIS_NAME = re.compile(
    r".+_(incremental_book_L2|book_snapshot_\d+|trades|derivative_ticker)_\d{4}-\d\d-\d\d_.+\.csv(\.gz)?(\.part)?"
)
"""What `--force` may replace in a folder: anything else there is not ours to remove."""
SUFFIXES = {".parquet": To.PARQUET, ".npz": To.NPZ, "": To.TARDIS}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Stated:
    """What is stated of the instrument, where a recording does not say it. Without these it is inferred or assumed."""

    tick: Annotated[Decimal | None, Parameter(help="Price step, in quote currency.")] = None
    lot: Annotated[Decimal | None, Parameter(help="Size step, in base currency.")] = None
    min_qty: Annotated[Decimal | None, Parameter(help="Smallest order, in base currency; needs --lot.")] = None
    min_notional: Annotated[Decimal | None, Parameter(help="Least value of an order, in quote currency.")] = None
    symbol: str | None = None
    quote: Annotated[str | None, Parameter(help="Quote currency.")] = None
    venue: str | None = None


@app.command
def info(*paths: Path, json: Annotated[bool, Parameter(negative=())] = False, stated: Stated | None = None) -> int:
    """Play a recording to its end, and show what it is and what is wrong with it.

    Exits with 78 where it cannot be played.

    Parameters
    ----------
    paths
        Files, or a folder of them; several follow each other, in order.
    json
        Print it as JSON.
    """
    console = Console(highlight=False)
    with refusing(), progress(quiet=json) as bar:
        recording = open_recording(_named(paths), steps_of(stated))
        end = recording.end_ts_ns
        found = survey(recording, bar(None if end is None else end - recording.start_ts_ns, "read {share}"))
    if json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _show(console, found)
    return ExitCode.OK


@app.command
def convert(
    *paths: Path,
    to: To | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    stated: Stated | None = None,
) -> int:
    """Write a recording in another format: `tape convert FILES... OUT`.

    OUT has its name only once it is whole; a recording that cannot be played to its end leaves nothing (exit 78).

    Parameters
    ----------
    paths
        Files, or a folder of them, in order; and last, what to write: a file, or for Tardis a folder.
    to
        What to write; without it by the suffix of OUT: .parquet, .npz, or none for the CSV files of Tardis.
    force
        Write over what is there.
    """
    *sources, out = _named(paths, least=2)
    kind = to or SUFFIXES.get(out.suffix)
    if kind is None:
        raise Refused(f"{out}: its suffix says no format; give --to {', '.join(To)}", ExitCode.USAGE)
    _check_out(out, sources, kind, force=force)
    console = Console(highlight=False)
    with refusing(out), progress(quiet=False) as bar:
        recording = open_recording(sources, steps_of(stated))
        told = bar(None, "{done:,} records so far")
        left_out = with_extra(out, lambda: _write(kind, recording, out, told, force=force))
    dropped = recording.refusals
    lost = lost_by(kind, recording.facts)
    said = ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.counts.items()))
    console.print(f"{out}: written ({kind.value}); dropped {said or 'nothing'}", markup=False, soft_wrap=True)
    for line in dropped.described[:SHOWN]:
        console.print(f"  {line}", markup=False, soft_wrap=True)
    if left_out:
        said = ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items()))
        console.print(f"  not exact, or without a form in this format: {said}", markup=False, soft_wrap=True)
    for each in lost:
        console.print(f"  lost: {each}", markup=False, soft_wrap=True)
    return ExitCode.OK


def lost_by(kind: To, facts: Facts) -> list[str]:
    """Which facts a reader of the new files will not have, and so play them otherwise. Tardis CSV has no place for any;
    the other formats keep them all."""
    if kind is not To.TARDIS:
        return []
    lost: list[str] = []
    if facts.book_step_ticks != 1:
        lost.append(
            f"that books are in steps of {facts.book_step_ticks} ticks: prints will be held against the touch as it "
            "stands, and more aggressors be inferred wrongly"
        )
    if facts.clock_shift_ns:
        lost.append(f"the clock's correction, {facts.clock_shift_ns / 1e6:+,.3f} ms")
    if facts.book_lag_ns:
        lost.append(f"the correction of the book's lag, {facts.book_lag_ns / 1e6:.3f} ms")
    instrument = facts.instrument
    least = f"{instrument.min_qty_lots * instrument.lot_e10 / E10:g} and {instrument.min_notional_e10 / E10:g}"
    lost.append(f"tick, lot, minimum ({least} {instrument.quote}): inferred anew unless given")
    return lost


def _write(kind: To, recording: Recording, out: Path, told: Callable[[int], None], *, force: bool) -> dict[str, int]:
    """What has no form in the format, by reason."""
    match kind:
        case To.PARQUET:
            from mmdaemon.tapes import parquet

            parquet.write(recording, out, told)
            return {}
        case To.NPZ:
            from mmdaemon.tapes.npz_write import write

            return write(recording, out, told).left_out
        case To.TARDIS:
            from mmdaemon.tapes import tardis

            with _folder(out) as fresh:
                return tardis.write(recording, fresh, told)


@contextmanager
def _folder(out: Path) -> Generator[Path]:
    """A hidden folder beside `out` to write into, which takes its place once all is whole. Killed half way, it is what
    is left, and `out` is as it was."""
    out = out.resolve()
    fresh, aside = (out.with_name(f".{out.name}.{os.getpid()}.{what}") for what in ("part", "aside"))
    try:
        yield fresh
        if out.exists():
            out.rename(aside)
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if aside.exists() and not out.exists():
            aside.rename(out)
    shutil.rmtree(aside, ignore_errors=True)


def _check_out(out: Path, sources: Sequence[Path], kind: To, *, force: bool) -> None:
    same = [source for source in sources if source.exists() and out.exists() and source.samefile(out)]
    if same or out.resolve().parent in [source.resolve() for source in sources if source.is_dir()]:
        raise Refused(f"{out}: is, or is in, what is to be read; write it elsewhere", ExitCode.USAGE)
    if not out.resolve().parent.is_dir():
        raise Refused(f"{out}: there is no folder {out.parent}; make it first", ExitCode.USAGE)
    if kind is To.TARDIS:
        if out.exists() and not out.is_dir():
            raise Refused(f"{out}: a Tardis recording is a folder, and this is a file; name another", ExitCode.USAGE)
        held = sorted(path.name for path in out.iterdir()) if out.exists() else []
        if others := [name for name in held if not _TARDIS_NAME.fullmatch(name)]:
            raise Refused(
                f"{out}: the folder holds {others[0]}, which is no file of Tardis, and would be lost; name another",
                ExitCode.USAGE,
            )
        if held and not force:
            raise Refused(f"{out}: the folder is not empty; --force replaces all of it", ExitCode.USAGE)
    elif out.is_dir():
        raise Refused(f"{out}: is a folder; name a file to write", ExitCode.USAGE)
    elif not force and out.exists():
        raise Refused(f"{out}: exists already; --force writes over it", ExitCode.USAGE)


def _named(paths: Sequence[Path], least: int = 1) -> list[Path]:
    if len(paths) < least:
        needed = "a recording to look at" if least == 1 else "a recording and, last, the file to write"
        raise Refused(f"name {needed}", ExitCode.USAGE)
    return list(paths)


def steps_of(stated: Stated | None) -> Steps:
    """Raises Refused (64) where what is stated is no step."""
    if stated is None:
        return Steps()

    def e10(name: str, value: Decimal | None) -> int | None:
        if value is None:
            return None
        scaled = value * E10 if value.is_finite() else Decimal(0)
        if scaled <= 0 or scaled != scaled.to_integral_value():
            raise Refused(f"--{name} {value} is not a positive multiple of 1e-10", ExitCode.USAGE)
        return int(scaled)

    lot_e10, min_qty_e10 = e10("lot", stated.lot), e10("min-qty", stated.min_qty)
    min_qty_lots = None
    if min_qty_e10 is not None:
        if lot_e10 is None or min_qty_e10 % lot_e10:
            raise Refused(f"--min-qty {stated.min_qty} must be a multiple of --lot, given with it", ExitCode.USAGE)
        min_qty_lots = min_qty_e10 // lot_e10
    return Steps(
        venue=stated.venue,
        symbol=stated.symbol,
        quote=stated.quote,
        tick_e10=e10("tick", stated.tick),
        lot_e10=lot_e10,
        min_qty_lots=min_qty_lots,
        min_notional_e10=e10("min-notional", stated.min_notional),
    )


@contextmanager
def refusing(out: Path | None = None) -> Generator[None]:
    """A recording that is refused, and what cannot be written, as Refused (78)."""
    try:
        yield
    except TapeError as error:
        raise Refused(str(error), ExitCode.CONFIG) from error
    except OSError as error:
        where = f"{out}: " if out is not None and error.filename is None else ""  # a full disk names no file
        raise Refused(f"{where}cannot be written or read: {error}", ExitCode.CONFIG) from error


@contextmanager
def progress(*, quiet: bool) -> Generator[Callable[[int | None, str], Callable[[int], None]]]:
    """How far it is, on stderr: what is asked for goes to stdout alone. A bar on a terminal, else a line now and then.

    Yields what begins the bar, by what it comes to (None: not known) and what is said of it, once the recording is
    open; that returns what is told of each step.
    """
    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
    console = Console(stderr=True)
    is_drawn = console.is_terminal and not quiet
    said = "opening the recording"
    with (
        telling(lambda: said, quiet=quiet or is_drawn),
        Progress(*columns, console=console, transient=True, disable=not is_drawn) as bars,
    ):
        task = bars.add_task(said, total=None)

        def begin(total: int | None, text: str) -> Callable[[int], None]:
            def advance(done: int) -> None:
                nonlocal said
                said = text.format(done=done, share=f"{done / total:.0%}" if total else f"{done / 1e9 / 3600:,.2f} h")
                bars.update(task, completed=done, total=total, description=said)

            advance(0)
            return advance

        yield begin


def _show(console: Console, found: Survey) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in found.facts.items():
        table.add_row(name, text)
    for name, text in _figures(found):
        table.add_row(name, text)
    console.print(table, markup=False)
    for line in found.described[:SHOWN]:
        console.print(f"  {line}", markup=False, soft_wrap=True)
    if len(found.described) > SHOWN:
        console.print(f"  and {len(found.described) - SHOWN} more (--json)", markup=False)
    if warning := crossed_warning(found.crossed, found.books):
        console.print(f"  {warning}", markup=False, soft_wrap=True)


def _figures(found: Survey) -> list[tuple[str, str]]:
    gaps = found.gaps
    rows = [
        ("from, to", f"{found.first}, {found.last}: {found.span_s:,.1f} s"),
        ("records", ", ".join(f"{count:,} {kind}" for kind, count in found.records.items())),
        (
            "told",
            f"{counted(found.books, 'book')}, {counted(found.trades, 'trade')}, "
            f"{counted(found.funding_rates, 'funding rate')}, {counted(found.marks, 'mark')}",
        ),
        ("gaps", f"{gaps.count:,} over 3 s without a book, {gaps.total_s:,.1f} s in all ({_share(gaps.share)})"),
    ]
    rows += [
        ("  of the longest", f"{gap.from_}: {gap.length_s:,.1f} s, {counted(gap.trades, 'trade')} meanwhile")
        for gap in gaps.longest
    ]
    rows += [*_latencies("book latency", found.book_latency), *_latencies("trade latency", found.trade_latency)]
    rows += [
        ("book to book", _spread(found.cadence_ms)),
        ("locked, crossed", f"{_share(found.locked_share)} of books locked, {_crossed(found)}"),
        (
            "aggressor known",
            f"{_share(found.aggressor_known_share)} of trades" if found.trades else "there are no trades",
        ),
    ]
    if (places := found.places) is not None:
        counts = {"at the touch": places.at, "inside": places.inside, "through": places.through}
        counts["at the other side"] = places.other_side
        said = ", ".join(f"{_share(count / places.measured)} {name}" for name, count in counts.items())
        rows.append(("first prints", f"of {places.measured:,}: {said}"))
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in found.dropped.items())
    return [*rows, ("local times raised", found.local_times_raised), ("dropped", dropped or "nothing")]


def _crossed(found: Survey) -> str:
    if not found.crossed:
        return "none crossed"
    return f"{share_of(found.crossed, found.books)} crossed ({found.crossed:,})"


def _latencies(name: str, latency: Latency | None) -> list[tuple[str, str]]:
    if latency is None:
        return [(name, "not measured: there are none")]
    rows = [(name, f"as recorded: {_spread(latency.recorded_ms)}")]
    if latency.corrected_ms != latency.recorded_ms:
        rows.append(("", f"corrected: {_spread(latency.corrected_ms)}"))
    return rows


def _spread(of: Quantiles | None) -> str:
    if of is None:
        return "not measured"
    texts = [
        f"{name} {value:,.1f}" for name, value in zip(of.__struct_fields__, msgspec.structs.astuple(of), strict=True)
    ]
    return ", ".join(texts) + " ms"


def _share(share: float | None) -> str:
    return "not measured" if share is None else f"{share:.1%}"
