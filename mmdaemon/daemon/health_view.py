"""What the daemon stands on, for the picture: journal, disk, backups, account, what was counted. No rule is here."""

import os
from collections import Counter
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

from mmdaemon.core.params import Params
from mmdaemon.core.state import State
from mmdaemon.core.types import E10
from mmdaemon.daemon.backup import Backups
from mmdaemon.daemon.breaks import Ledger, rule_of
from mmdaemon.daemon.telemetry import Telemetry
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.journal.writer import JournalWriter
from mmdaemon.ops.status import HealthView


def health(
    state: State,
    params: Params,
    journal: JournalWriter,
    ledger: Ledger,
    telemetry: Telemetry,
    state_dir: StateDir,
    backups: Backups,
) -> HealthView:
    """Made at each look: two `statvfs` and two `stat`, which are a few microseconds."""
    measured, account, risk = state.facts.health, state.venue.account, state.risk
    free, size = _disk(state_dir.path)
    copies_free, copies_size = _disk(backups.pruner.folder) if backups.is_taken else (None, None)
    margin = account.available_margin_e10 / account.equity_e10 if account and account.equity_e10 > 0 else None
    limits = params.guard
    return HealthView(
        heartbeat_ts_ns=state.ts_ns,
        journal_failed=journal.failed,
        journal_commits=journal.commits,
        journal_rows=journal.rows_committed,
        disk_free_bytes=free,
        disk_size_bytes=size,
        backup_ts_ns=backups.newest_ts_ns or None,
        backup_failures=backups.failures,
        backup_error=backups.error,
        clock_offset_s=measured.clock_offset_s if measured else None,
        unprotected_s=measured.unprotected_s if measured else None,
        account_ok=measured.account_facts_ok if measured else None,
        margin_available=margin,
        day_open_equity=_money(risk.day_open_e10) if risk.day >= 0 else None,
        peak_equity=_money(risk.peak_e10),
        reject_streak=state.orders.reject_streak,
        limits={
            "daily_loss": limits.daily_loss,
            "drawdown": limits.drawdown,
            "margin_soft": limits.margin_soft,
            "margin_hard": limits.margin_hard,
        },
        guard_entries=dict(telemetry.guard_entries),
        reasons_raised=dict(telemetry.reasons_raised),
        order_failures=dict(telemetry.order_failures),
        link_losses=dict(telemetry.link_losses),
        fills_after_pause=dict(telemetry.fills_after_pause),
        breaks_open=dict(Counter(rule_of(name).kind.value for name in ledger.open)),
        histograms=telemetry.histograms(),
        journal_bytes=_size(state_dir.journal_path),
        journal_since_ts_ns=backups.pruner.oldest_ts_ns,
        journal_keep_days=backups.pruner.keep_days,
        pruned_rows=backups.pruner.rows,
        prune_error=backups.pruner.error,
        backup_free_bytes=copies_free,
        backup_size_bytes=copies_size,
    )


def _disk(folder: Path) -> tuple[int | None, int | None]:
    """Of a folder that is not made yet, the file system it will be on."""
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        asked = os.statvfs(folder)
    except OSError:
        return None, None
    return asked.f_bavail * asked.f_frsize, asked.f_blocks * asked.f_frsize


def _size(journal: Path) -> int | None:
    """With its log, which is there only while it is open."""
    try:
        size = journal.stat().st_size
        with suppress(FileNotFoundError):
            size += journal.with_name(f"{journal.name}-wal").stat().st_size
    except OSError:
        return None
    return size


def _money(amount_e10: int) -> str:
    return f"{Decimal(amount_e10) / E10:f}"
