"""Our own format: one Parquet file, a row a record, everything a `Recording` says. `docs/TAPES.md` describes it.

What a reader may rely on is written at the end of the writing, in the file's metadata under `mmdaemon.tape`: facts,
counts, gaps, and a digest. The digest (a CRC-32 a column) tells a file that was edited or damaged from one that was
not; it is no signature. It is compared when the last row was read, as nothing half-read is a result anyway.

Both ways the same checks hold (`mmdaemon/tapes/checks.py`), so that what was written can be read.
"""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmdaemon import __version__
from mmdaemon.core.types import NS
from mmdaemon.tapes.arrow import SCHEMA, columns_of, decoded, encoded, records_of
from mmdaemon.tapes.checks import KINDS, Checks, Impossible
from mmdaemon.tapes.records import Depth, Facts, Record, Recording
from mmdaemon.tapes.rows import Refusals, TapeError

KEY = b"mmdaemon.tape"
FORMAT = 1
GAP_NS = 3 * NS
"""A time without a book that is longer than this is listed in the file."""
BATCH = 2_048
"""Records that are Python objects at one time, writing or reading: 2,048 books of 40 levels are 10 MB."""
ROW_GROUP = 65_536
Progress = Callable[[int], None]


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """A time without a book, corrected venue time. `what` is "book", or "everything" where nothing else came either."""

    from_ns: int
    to_ns: int
    what: str


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself."""

    format: int
    written_by: str
    facts: Facts
    records: int
    counts: dict[str, int]
    """By kind."""
    first_ts_ns: int
    last_ts_ns: int
    """Corrected venue time."""
    gaps: tuple[Gap, ...]
    dropped: dict[str, int]
    described: tuple[str, ...]
    """What the conversion dropped, and the first few of each reason."""
    digest: str


class _Version(msgspec.Struct):
    format: int


# --- reading ----------------------------------------------------------------------------------------------------------


class ParquetTape:
    """A `Recording` out of one file of our format.

    Raises:
        TapeError: the file is truncated, not Parquet, not of this format or of a later version of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meta = read_meta(path)
        self._refusals = Refusals()

    @property
    def facts(self) -> Facts:
        return self.meta.facts

    @property
    def start_ts_ns(self) -> int:
        return self.meta.first_ts_ns

    @property
    def end_ts_ns(self) -> int:
        return self.meta.last_ts_ns

    @property
    def refusals(self) -> Refusals:
        """Always empty: what a conversion dropped is in `meta`, and a file with a bad row is refused."""
        return self._refusals

    def records(self) -> Iterator[Record]:
        """Raises TapeError, when reached, where a row is impossible or the file is damaged or was edited."""
        path, meta = self.path, self.meta
        checks = Checks(meta.facts.book_lag_ns)
        row = 0
        try:
            with pq.ParquetFile(path) as file:
                reading: Any = file
                for batch in reading.iter_batches(batch_size=BATCH):
                    columns = decoded(batch, checks)
                    checks.add(columns)
                    row += len(columns.kind)
                    yield from records_of(columns)
        except Impossible as error:
            raise TapeError(f"{path} row {error.row + 1:,}: {error.why}; convert it anew from its source") from error
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise TapeError(f"{path}: damaged after row {row:,} ({error}); copy or convert it again") from error
        if checks.digest() != meta.digest:
            raise TapeError(
                f"{path}: its {row:,} rows are not those that were written (digest {checks.digest()}, written "
                f"{meta.digest}); the file was edited or damaged: convert it anew from its source"
            )


def is_tape(path: Path) -> bool:
    """Whether a Parquet file says that it is of our format. Raises TapeError where it is no whole Parquet file."""
    return _metadata(path)[0] is not None


def read_meta(path: Path) -> Meta:
    """What the file says of itself, of which the number of rows is checked here.

    Raises:
        TapeError: as `ParquetTape`.
    """
    found, rows, schema = _metadata(path)
    if found is None:
        raise TapeError(
            f"{path}: a Parquet file, but not a tape (its metadata has no {KEY.decode()!r}); "
            "where it is a recording in another format, `mmdaemon tape convert` makes a tape of it"
        )
    try:
        version = msgspec.json.decode(found, type=_Version).format
        if version != FORMAT:
            raise TapeError(
                f"{path}: a tape of format {version}, and this is mmdaemon {__version__}, which reads format {FORMAT}; "
                "read it with the version that wrote it, or a later one"
            )
        meta = msgspec.json.decode(found, type=Meta)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TapeError(
            f"{path}: the metadata {KEY.decode()!r} cannot be understood ({error}); convert it anew from its source"
        ) from error
    if not schema.equals(SCHEMA):
        raise TapeError(f"{path}: its columns are not those of a tape of format {FORMAT}; convert it anew")
    if rows != meta.records:
        raise TapeError(f"{path}: {rows:,} rows, and {meta.records:,} were written; it was edited, convert it anew")
    return meta


def _metadata(path: Path) -> tuple[bytes | None, int, pa.Schema]:
    try:
        with pq.ParquetFile(path) as file:
            return (file.metadata.metadata or {}).get(KEY), file.metadata.num_rows, file.schema_arrow
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TapeError(f"{path}: not a whole Parquet file ({error}); copy or convert it again") from error


# --- writing ----------------------------------------------------------------------------------------------------------


def write(recording: Recording, out: Path, progress: Progress | None = None) -> Meta:
    """Write a recording to `out`, and return what the file says of itself. Until it is whole it has another name.

    `progress` is told how many records were written so far.

    Raises:
        TapeError: the recording breaks off, is empty, or has a record that cannot be; or `out` cannot be written.
            Nothing remains then, and what `out` was before is untouched.
    """
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        make: Any = pq.ParquetWriter
        with make(part, SCHEMA, compression="zstd", use_dictionary=["kind", "aggressor"]) as writer:
            meta = _write_rows(recording, writer, out, progress or (lambda _records: None))
            writer.add_key_value_metadata({KEY: msgspec.json.encode(meta)})
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(out)
    except OSError as error:
        raise TapeError(f"{out}: cannot be written ({error}); check the folder and the space in it") from error
    finally:
        part.unlink(missing_ok=True)
    return meta


def _write_rows(recording: Recording, writer: pq.ParquetWriter, out: Path, progress: Progress) -> Meta:
    facts = recording.facts
    checks, gaps = Checks(facts.book_lag_ns), _Gaps(facts.book_lag_ns)
    counts: dict[str, int] = dict.fromkeys(KINDS, 0)
    held: list[pa.RecordBatch] = []
    records, first_ns = recording.records(), 0
    done = in_held = 0
    while batch := list(islice(records, BATCH)):
        columns = columns_of(batch)
        try:
            checks.add(columns)
        except Impossible as error:
            raise TapeError(
                f"{out}: not written, because of record {error.row + 1:,}: {error.why}; see what `tape info` says of it"
            ) from error
        if not done:
            first_ns = batch[0].venue_ts_ns - (facts.book_lag_ns if isinstance(batch[0], Depth) else 0)
        gaps.add(batch)
        for code, count in enumerate(np.bincount(columns.kind, minlength=len(KINDS)).tolist()):
            counts[KINDS[code]] += count
        held.append(encoded(columns))
        done, in_held = done + len(batch), in_held + len(batch)
        if in_held >= ROW_GROUP:
            writer.write_table(pa.Table.from_batches(held, SCHEMA), row_group_size=in_held)
            held, in_held = [], 0
        progress(done)
    if held:
        writer.write_table(pa.Table.from_batches(held, SCHEMA), row_group_size=in_held)
    dropped = recording.refusals
    if not done:
        said = ", ".join(f"{count:,} {reason}" for reason, count in dropped.counts.items())
        raise TapeError(f"{out}: not written, because the recording has no records; dropped: {said or 'nothing'}")
    if dropped.counts:
        said = ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.counts.items()))
        told = facts.provenance | {"dropped at conversion": said}
        facts = msgspec.structs.replace(facts, provenance=told)
    return Meta(
        format=FORMAT,
        written_by=f"mmdaemon {__version__}",
        facts=facts,
        records=done,
        counts=counts,
        first_ts_ns=first_ns,
        last_ts_ns=checks.latest_ns,
        gaps=tuple(gaps.found),
        dropped=dict(dropped.counts),
        described=tuple(dropped.described),
        digest=checks.digest(),
    )


class _Gaps:
    def __init__(self, book_lag_ns: int) -> None:
        self.found: list[Gap] = []
        self._lag_ns, self._book_ns, self._others = book_lag_ns, 0, False

    def add(self, batch: list[Record]) -> None:
        for record in batch:
            if not isinstance(record, Depth):
                self._others = True
                continue
            at = record.venue_ts_ns - self._lag_ns
            if at - self._book_ns > GAP_NS and self._book_ns:
                self.found.append(Gap(self._book_ns, at, "book" if self._others else "everything"))
            self._book_ns, self._others = at, False
