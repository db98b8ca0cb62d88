"""What is kept of a preflight: rows in the journal of its directory, and the receipt where all fourteen passed.

STATE/preflight-testnet/     demo trading: journal.sqlite with the rows, preflight.json, and what was made for it
    trading/                 the daemons' journals of the last run
    soak/                    those of the items that need hours: kept until they are over
STATE/                       live: rows in the daemon's own journal, and its preflight.json
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from mmdaemon import __version__
from mmdaemon.core.types import NS
from mmdaemon.daemon.preflight.items import ITEMS, Result
from mmdaemon.journal import preflights
from mmdaemon.journal.records import PreflightRow
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.ops import receipt
from mmdaemon.ops.receipt import Receipt, Stage, is_sealed, needed, seal_of
from mmdaemon.secret import Secret

TESTNET: Final = "preflight-testnet"
TRADING: Final = "trading"
SOAK: Final = "soak"
PROGRESS: Final = "progress"


class Whose(msgspec.Struct, frozen=True):
    """What a row is of: one mode, configuration, account and version."""

    mode: str
    config_hash: str
    account: str
    version: str = __version__


class Record:
    """The rows and the receipt of one directory. `at` names venue and symbol, as the journal has them."""

    def __init__(
        self,
        directory: StateDir,
        whose: Whose,
        key: Secret,
        at: tuple[str, str],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`directory` is locked. `now_ns` is UTC."""
        self._directory, self._whose, self._key, self._at, self._now_ns = directory, whose, key, at, now_ns

    @property
    def path(self) -> Path:
        """Of the receipt."""
        return self._directory.path / receipt.NAME

    def rows(self) -> list[PreflightRow]:
        """Those of just this, as they were written, oldest first. Raises JournalUnreadable."""
        whose = (self._whose.mode, self._whose.config_hash, self._whose.account, self._whose.version)
        return [
            row
            for row in preflights.read(self._directory.journal_path)
            if (row.mode, row.config_hash, row.account, row.version) == whose and is_sealed(row, self._key)
        ]

    def last(self) -> dict[str, PreflightRow]:
        """The newest of each item that is not too old for a receipt; progress apart."""
        oldest_ns = self._now_ns() - round(receipt.MAX_AGE.total_seconds() * NS)
        return {row.item: row for row in self.rows() if row.outcome != PROGRESS and row.ts_ns >= oldest_ns}

    def write(self, results: Sequence[Result], ts_ns: int) -> None:
        """A row each; `ts_ns` is when it was measured. Raises RecoveryRefused."""
        self.append([self.row(each.item, each.outcome, each.figures, each.said, ts_ns) for each in results])

    def progress(self, item: str, figures: Mapping[str, object], said: str, ts_ns: int) -> None:
        self.append([self.row(item, PROGRESS, figures, said, ts_ns)])

    def take_over(self, rows: Sequence[PreflightRow]) -> None:
        """Rows of demo trading become rows of this account, measured when they were."""
        self.append(
            [
                self.row(
                    row.item,
                    row.outcome,
                    msgspec.json.decode(row.figures),
                    f"in demo trading: {row.evidence}",
                    row.ts_ns,
                )
                for row in rows
            ]
        )

    def row(self, item: str, outcome: str, figures: Mapping[str, object], said: str, ts_ns: int) -> PreflightRow:
        """Sealed."""
        made = PreflightRow(
            ts_ns=ts_ns,
            mode=self._whose.mode,
            item=item,
            outcome=outcome,
            version=self._whose.version,
            config_hash=self._whose.config_hash,
            account=self._whose.account,
            figures=msgspec.json.encode(figures).decode(),
            evidence=said,
        )
        return msgspec.structs.replace(made, seal=seal_of(made.said(), self._key))

    def append(self, rows: Sequence[PreflightRow]) -> None:
        """Raises RecoveryRefused."""
        if rows:
            preflights.append(self._directory, *self._at, rows)

    def issue(self, stage: Stage, refused: str = "") -> str:
        """Write the receipt of this stage, where the newest row of each item that it needs passed and nothing else is
        in its way (`refused`); else take away the one that is there: what it says is not so any more. Why there is
        none; empty: there is."""
        last = self.last()
        unmet = [item for item in needed(stage) if item not in last or last[item].outcome != "passed"]
        did_not_pass = f"no receipt: {', '.join(unmet)} did not pass" if unmet else ""
        if why := "; ".join(filter(None, (refused, did_not_pass))):
            self.path.unlink(missing_ok=True)
            return why
        whose = self._whose
        made = Receipt(
            whose.version,
            whose.config_hash,
            whose.mode,
            whose.account,
            datetime.fromtimestamp(self._now_ns() / NS, UTC),
            stage,
            {item: last[item].seal for item in needed(stage)},
        )
        fresh = self.path.with_suffix(".new")
        fresh.write_bytes(receipt.text_of(made, self._key))
        fresh.chmod(0o600)
        fresh.replace(self.path)
        return ""


def as_result(row: PreflightRow) -> Result:
    figures = msgspec.json.decode(row.figures, type=dict[str, float | str | bool])
    outcome = row.outcome if row.outcome in ("passed", "failed") else "not_checked"
    return Result(row.item, outcome, figures, row.evidence)


def lines(results: Sequence[Result], last: Mapping[str, PreflightRow]) -> list[Result]:
    """The fourteen: what was measured now, and of the others what is known."""
    now = {result.item: result for result in results}
    return [now.get(item) or _known(item, last) for item in ITEMS]


def _known(item: str, last: Mapping[str, PreflightRow]) -> Result:
    return as_result(last[item]) if item in last else Result(item, "not_checked", {}, "it was not measured")
