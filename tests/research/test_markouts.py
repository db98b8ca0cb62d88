"""Markouts of a recorded run, recomputed with nothing of ours: what `mmdaemon export` wrote of its fills, and the books
of the recording as they arrived, joined by polars. Every row agrees to the last decimal shown."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mmdaemon.cli.main import main
from mmdaemon.journal.state_dir import open_dir
from mmdaemon.research.session import play, until_the_end
from mmdaemon.settings import load
from mmdaemon.tapes.reading import open_tape

if TYPE_CHECKING:
    import polars as pl
else:
    pl = pytest.importorskip("polars")

NARROW = {
    "run.speed": "max",
    "quotes.depth_levels": 1,  # of what is deeper the recording tells twice a second only
    "cost.min_edge_bps": 0.0,
    "cost.taker_probability": 0.0,
    "cost.adverse_cap_bps": 0.0,
    "quotes.band_gain": 0.0,
    "guard.fills_per_side_per_minute": 600,
    "simulated.maker_fee_bps": -1.0,
    "quality.pull": False,
    "gate.enabled": False,
}
REGIMES = ("neutral_low_vol", "neutral_high_vol", "up", "down", "high_vol_shock")
AGE_MAX_NS = 2_000_000_000


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """`fills.csv` and `markouts.csv` of a run over the recording, quoted so near that there is something to value."""
    folder = tmp_path_factory.mktemp("markouts")
    narrow = {f"regimes.{regime}.spread_min_bps": 0.2 for regime in REGIMES}
    settings = load(None, {**NARROW, **narrow}, {}).settings
    state_dir = open_dir(folder / "state", {}).lock()
    played = play(settings, state_dir, open_tape(shared_data / "hyperliquid_btc"), until_the_end(0))
    state_dir.release()
    assert played.exit_code == 0
    out = folder / "out"
    assert main(["export", "--state-dir", str(folder / "state"), "--out", str(out)]) == 0
    return out


def nanoseconds(column: str) -> pl.Expr:
    """Seconds in decimal text, exactly."""
    parts = pl.col(column).str.splitn(".", 2)
    whole, part = parts.struct.field("field_0"), parts.struct.field("field_1").fill_null("0")
    return whole.cast(pl.Int64) * 1_000_000_000 + part.str.pad_end(9, "0").str.head(9).cast(pl.Int64)


def milliseconds(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Int64) * 1_000_000


def books(folder: Path) -> pl.DataFrame:
    """(arrived_ns, fair) of each book that was told: snapshots and changes of the touch, in the order of the exchange's
    time, each there when it and all before it had been received."""
    snapshots = pl.read_csv(folder / "orderbooks_BTC.csv.gz", infer_schema=False).select(
        at=milliseconds("exchange_timestamp"),
        local=nanoseconds("timestamp"),
        rank=1,
        **{f"{side}_{what}": pl.col(f"{side}_{what}_0") for side in ("bid", "ask") for what in ("price", "size")},
    )
    changes = pl.read_csv(folder / "prices_BTC.csv.gz", infer_schema=False).with_row_index("row")
    bid = changes.filter(pl.col("side") == "bid")
    ask = changes.filter(pl.col("side") == "ask").select(
        pl.col("row") - 1, ask_price="price", ask_size="size", ask_at="exchange_timestamp"
    )
    touches = bid.join(ask, on="row", how="inner").filter(pl.col("exchange_timestamp") == pl.col("ask_at"))
    touches = touches.sort("row").select(
        at=milliseconds("exchange_timestamp"),
        local=nanoseconds("timestamp"),
        rank=2,
        bid_price="price",
        bid_size="size",
        ask_price="ask_price",
        ask_size="ask_size",
    )
    first_ns = snapshots["at"].min()
    trades = pl.read_csv(folder / "trades_BTC.csv.gz", infer_schema=False).select(
        at=milliseconds("exchange_timestamp"), local=nanoseconds("timestamp"), rank=0
    )
    price = pl.col("bid_price", "ask_price").cast(pl.Float64)
    size = (pl.col("bid_size", "ask_size").cast(pl.Float64) * 1e5).round().cast(pl.Int64)
    told = (
        pl.concat([trades, snapshots, touches], how="diagonal")
        .with_row_index("row")
        .sort("at", "rank", "row")
        .filter((pl.col("at") >= first_ns) & ((pl.col("rank") > 0) | (pl.col("at") > first_ns)))
        # What a snapshot of the same time says comes first, and counts.
        .with_columns(snapshot_at=pl.when(pl.col("rank") == 1).then("at").forward_fill())
        .filter((pl.col("rank") < 2) | (pl.col("at") != pl.col("snapshot_at")))
        .with_columns(price, size)
    )
    touch = pl.struct("bid_price", "bid_size", "ask_price", "ask_size")
    seen = told.filter(pl.col("rank") > 0).with_columns(
        again=(pl.col("rank") == 2) & (touch == touch.shift(1)).fill_null(value=False)
    )
    repeated = seen.filter("again").select("row")
    # A message raises the time of all that come after it.
    arrived = told.join(repeated, on="row", how="anti").with_columns(
        arrived_ns=pl.max_horizontal("at", pl.col("local").cum_max()).cum_max()
    )
    bids, asks = pl.col("bid_size"), pl.col("ask_size")
    fair = pl.col("bid_price") + (pl.col("ask_price") - pl.col("bid_price")) * (bids / (bids + asks))
    return arrived.filter(pl.col("rank") > 0).select("arrived_ns", fair=fair).sort("arrived_ns", maintain_order=True)


def test_every_markout_is_what_polars_makes_of_fills_and_books(exported: Path, shared_data: Path) -> None:
    seen = books(shared_data / "hyperliquid_btc").with_columns(book_ns="arrived_ns")
    fills = pl.read_csv(exported / "fills.csv").sort("ts_ns")
    said = pl.read_csv(exported / "markouts.csv")
    assert len(fills) >= 50

    before = fills.join_asof(seen, left_on="ts_ns", right_on="arrived_ns").rename({"fair": "mine0"})
    sign = pl.when(pl.col("side") == "buy").then(1.0).otherwise(-1.0)
    horizons = pl.DataFrame({"horizon_s": [1, 5, 30, 60]}, schema={"horizon_s": pl.Int64})
    due = before.select("trade_id", "ts_ns", "mine0", "price", sign=sign).join(horizons, how="cross")
    due = due.with_columns(due_ns=pl.col("ts_ns") + pl.col("horizon_s") * 1_000_000_000).sort("due_ns")
    mine = due.join_asof(seen, left_on="due_ns", right_on="arrived_ns").with_columns(
        fair=pl.when(pl.col("due_ns") - pl.col("book_ns") <= AGE_MAX_NS).then("fair")
    )
    mine = mine.with_columns(
        mine_effective=pl.col("sign") * (pl.col("mine0") - pl.col("price")) / pl.col("mine0") * 1e4,
        mine_impact=pl.col("sign") * (pl.col("fair") - pl.col("mine0")) / pl.col("mine0") * 1e4,
    )

    both = said.join(mine, on=("trade_id", "horizon_s"), how="left")
    assert both["mine0"].null_count() == 0
    # All but those whose time did not come before the end.
    assert len(said) >= 4 * len(fills) - 40
    # Ticks are shown with all their digits, bps with six decimals.
    bps = {"effective_bps": "mine_effective", "impact_bps": "mine_impact"}
    for theirs, ours in {"fair0_ticks": "mine0", "fair_ticks": "fair", **bps}.items():
        expected = pl.col(ours).round(6) if theirs in bps else pl.col(ours)
        differ = both.filter(pl.col(theirs).ne_missing(expected))
        assert differ.select("trade_id", "horizon_s", theirs, ours, "due_ns", "book_ns").rows() == []
    print(f"{len(fills)} fills, {len(said)} markouts, {said['fair_ticks'].null_count()} unavailable")
