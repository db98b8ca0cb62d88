"""What a journal knows at the start of a run, a question each. They read, and decide nothing."""

import sqlite3

import msgspec

from mmdaemon.core.events import Fill, OrderAdopted, SignalReceived
from mmdaemon.core.signals import RANGES, VERSION
from mmdaemon.core.types import NS, Instrument, OrderStatus, Purpose, Regime, Side
from mmdaemon.journal.rows import digest_of

_SIGNALS_NS = 25 * 3_600 * NS
"""Longer than any signal may hold, with its age on arrival."""
_MESSAGES_MOST = 3_000
"""The highest limit on the messages of a minute."""


class WatchedFill(msgspec.Struct, frozen=True):
    """A fill, with what was seen when it came."""

    fill: Fill
    fair0_ticks: float | None
    regime: Regime


class ClosedHorizon(msgspec.Struct, frozen=True):
    trade_id: str
    horizon_s: int
    fair_ticks: float | None
    """None: it was unavailable."""


class Learned(msgspec.Struct, frozen=True):
    """The newest slice of what fills taught, None where there is none yet, and all that was journaled after it."""

    kept: bytes | None
    since: tuple[WatchedFill | ClosedHorizon, ...]


def learned(db: sqlite3.Connection, account: int) -> Learned:
    # Fills of before version 2 have no regime: nobody kept what they saw.
    newest = db.execute(
        "SELECT epoch, seq, blob, digest FROM checkpoints WHERE slice = 'learned' AND epoch >= ? "
        "ORDER BY epoch DESC, seq DESC LIMIT 1",
        (account,),
    ).fetchone()
    place = (account, -1) if newest is None else newest[:2]
    kept = None if newest is None else whole("learned", *newest[2:])
    fields = Fill.__struct_fields__
    found: list[tuple[int, int, WatchedFill | ClosedHorizon]] = []
    for epoch, seq, fair0_ticks, regime, *columns in db.execute(
        f"SELECT epoch, seq, fair0_ticks, regime, {', '.join(fields)} FROM fills "  # noqa: S608 - our own field names
        "WHERE (epoch, seq) > (?, ?) AND regime IS NOT NULL ORDER BY epoch, seq, rowid",
        place,
    ):
        fill = msgspec.convert({"type": "Fill", **dict(zip(fields, columns, strict=True))}, Fill)
        found.append((epoch, seq, WatchedFill(fill, fair0_ticks, Regime(regime))))
    found.extend(
        (epoch, seq, ClosedHorizon(trade_id, horizon_s, fair_ticks))
        for epoch, seq, trade_id, horizon_s, fair_ticks in db.execute(
            "SELECT epoch, seq, trade_id, horizon_s, fair_ticks FROM markouts "
            "WHERE (epoch, seq) > (?, ?) ORDER BY epoch, seq, rowid",
            place,
        )
    )
    found.sort(key=lambda each: each[:2])
    return Learned(kept, tuple(each for _, _, each in found))


def number(db: sqlite3.Connection, name: str, account: int, otherwise: int) -> int:
    """The newest of a slice that is one number."""
    newest = newest_slice(db, name, account)
    return otherwise if newest is None else msgspec.msgpack.decode(newest, type=int)


def read_until(db: sqlite3.Connection, account: int, opened_ts_ns: int, ts_ns: int) -> int:
    """A journal of before that slice says by our own clock when all agreed last; but not what one said that ran ahead.
    To read all since the account was opened would book again what is older than the ids of trades we remember."""
    kept = newest_slice(db, "read_until", account)
    if kept is not None:
        return msgspec.msgpack.decode(kept, type=int)
    # All rounds of the account are read for it, once.
    (agreed_ts_ns,) = db.execute(
        "SELECT max(ts_ns) FROM reconciliations WHERE epoch >= ? AND breaks = '[]' AND ts_ns <= ?",
        (account, ts_ns + NS),
    ).fetchone()
    return opened_ts_ns if agreed_ts_ns is None else agreed_ts_ns


def messages(db: sqlite3.Connection, ts_ns: int) -> tuple[int, ...]:
    found = db.execute(
        "SELECT ts_ns FROM (SELECT ts_ns FROM intents ORDER BY epoch DESC, seq DESC LIMIT ?2) WHERE ts_ns > ?1 "
        "UNION ALL SELECT ts_ns FROM (SELECT ts_ns FROM cancels ORDER BY ts_ns DESC LIMIT ?2) WHERE ts_ns > ?1 "
        "ORDER BY 1",
        (ts_ns - 60 * NS, _MESSAGES_MOST),
    )
    return tuple(sent_ts_ns for (sent_ts_ns,) in found)


def pause(db: sqlite3.Connection) -> str:
    """The reason of the operator's last pause, where no resume that was taken came after it."""
    last = db.execute(
        "SELECT action, reason FROM operator_actions WHERE outcome = 'taken' AND action IN ('pause', 'resume') "
        "ORDER BY rowid DESC LIMIT 1"
    ).fetchone()
    return last[1] or "operator" if last is not None and last[0] == "pause" else ""


def instruments(db: sqlite3.Connection) -> tuple[Instrument, ...]:
    columns = Instrument.__struct_fields__
    query = f"SELECT {', '.join(columns)} FROM instruments ORDER BY version"  # noqa: S608 - our own field names
    return tuple(Instrument(**dict(zip(columns, each, strict=True))) for each in db.execute(query))


def unsettled_orders(db: sqlite3.Connection, account: int, mono_ns: int, ts_ns: int) -> tuple[OrderAdopted, ...]:
    orders = db.execute(
        "SELECT client_id, side, px_ticks, qty_lots, filled_lots, purpose, reduce_only, revision FROM orders "
        "WHERE settled = 0 AND epoch >= ? ORDER BY epoch, client_id",
        (account,),
    ).fetchall()
    found: list[OrderAdopted] = []
    for client_id, side, px_ticks, qty_lots, filled_lots, purpose, reduce_only, revision in orders:
        amends = db.execute(
            "SELECT px_ticks, qty_lots FROM intents WHERE client_id = ? AND revision > ?", (client_id, revision)
        ).fetchall()
        sizes = [qty_lots, *(qty for _, qty in amends)]
        prices = [px_ticks, *(px for px, _ in amends)]
        found.append(
            OrderAdopted(
                mono_ns=mono_ns,
                ts_ns=ts_ns,
                venue_ts_ns=None,
                client_id=client_id,
                side=Side(side),
                px_ticks=max(prices) if side == Side.BUY else min(prices),
                qty_lots=max(sizes),
                cum_filled_lots=filled_lots,
                purpose=Purpose(purpose),
                reduce_only=bool(reduce_only),
                status=OrderStatus.UNKNOWN,
            )
        )
    return tuple(found)


def signals(db: sqlite3.Connection, account: int, mono_ns: int, ts_ns: int) -> tuple[SignalReceived, ...]:
    """Signals that were taken and had not ended, in the order in which they came; what ran out meanwhile is left out.
    So is what nobody can read: a signal is never more than advice."""
    found = db.execute(
        "SELECT source, kind, value, confidence, said_ts_ns, ttl_s, sequence FROM signals INDEXED BY signals_ts "
        "WHERE ts_ns > ? AND epoch >= ? AND what IN ('applied', 'shadow') AND said_ts_ns + ttl_s * 1e9 > ? "
        "AND NOT EXISTS (SELECT 1 FROM signals ended WHERE ended.rowid > signals.rowid AND ended.epoch >= ? "
        "AND ended.source = signals.source AND ended.kind = signals.kind AND ended.sequence = signals.sequence "
        "AND ended.what IN ('replaced', 'expired', 'off')) ORDER BY signals.rowid",
        (ts_ns - _SIGNALS_NS, account, ts_ns, account),
    )
    return tuple(
        SignalReceived(
            mono_ns=mono_ns,
            ts_ns=ts_ns,
            venue_ts_ns=None,
            source=source,
            kind=kind,
            value=float(value) if kind in RANGES else value,
            confidence=confidence,
            said_ts_ns=said_ts_ns,
            ttl_s=ttl_s,
            sequence=sequence,
            version=VERSION,
            restored=True,
        )
        for source, kind, value, confidence, said_ts_ns, ttl_s, sequence in found
    )


def newest_slice(db: sqlite3.Connection, name: str, account: int) -> bytes | None:
    """The newest of a slice that is kept more often than the whole."""
    newest = db.execute(
        "SELECT blob, digest FROM checkpoints WHERE slice = ? AND epoch >= ? ORDER BY epoch DESC, seq DESC LIMIT 1",
        (name, account),
    ).fetchone()
    return None if newest is None else whole(name, *newest)


def whole(name: str, blob: bytes, digest: bytes | None) -> bytes:
    """A slice as it was written; one of before version 2 has no digest. Raises ValueError: it is damaged."""
    if digest is not None and digest != digest_of(blob):
        raise ValueError(f"checkpoint {name!r} is damaged")
    return blob
