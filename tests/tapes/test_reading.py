"""What a path is taken for, whatever it is called, and how anything else is refused."""

import gzip
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmdaemon.core.types import E10
from mmdaemon.tapes.chain import Chain
from mmdaemon.tapes.parquet import write
from mmdaemon.tapes.reading import Format, format_of, open_recording, open_tape
from mmdaemon.tapes.rows import TapeError
from mmdaemon.tapes.steps import Steps
from tests.tapes.made import Made, snapshot, trade

FILES = ("orderbooks_BTC.csv.gz", "trades_BTC.csv.gz", "prices_BTC.csv.gz")
STREAM = (
    '1723161255030314667 {"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1723161256299,'
    '"T":1723161256298,"s":"BTCUSDT","U":1,"u":2,"pu":0,"b":[["58710.20","0.014"]],"a":[]}}\n'
)
TARDIS = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"


def hyperliquid(shared_data: Path, folder: Path, symbol: str = "BTC", names: tuple[str, ...] = FILES) -> None:
    for name in names:
        (folder / name.replace("BTC", symbol)).symlink_to(shared_data / "hyperliquid_btc" / name)


def tape(path: Path, begin_ms: int = 0) -> Path:
    write(Made([snapshot(begin_ms), trade(begin_ms + 1)]), path)
    return path


# --- recognised -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("standx_btc_perp/orderbook_BTC-USD_2026-01-06_00.parquet", Format.STANDX),
        ("standx_btc_perp/trades_BTC-USD_2026-01-06_00.parquet", Format.STANDX),
        ("binance_usdm_btcusdt/btcusdt_20240808.gz", Format.BINANCE),
        ("hyperliquid_btc/orderbooks_BTC.csv.gz", Format.HYPERLIQUID),
        ("hyperliquid_btc/prices_BTC.csv.gz", Format.HYPERLIQUID),
        ("bitget_history/BTC-USDT_1m_2000.csv", None),
        ("bitget_history/BTC-USDT_trades.parquet", None),
        ("bitget_messages/recorded_mix_v1.txt", None),
        ("README.md", None),
    ],
)
def test_the_shared_files(shared_data: Path, name: str, kind: Format | None) -> None:
    assert format_of(shared_data / name) is kind


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    odd = tape(tmp_path / "odd.csv.gz")
    assert format_of(odd) is Format.PARQUET
    assert open_tape([odd]).instrument.symbol == "BTCUSDT"
    for number, (content, kind) in enumerate(((STREAM, Format.BINANCE), (TARDIS, Format.TARDIS))):
        plain, zipped = tmp_path / f"{number}.parquet", tmp_path / f"{number}.npz"
        plain.write_text(content)
        zipped.write_bytes(gzip.compress(content.encode()))
        assert (format_of(plain), format_of(zipped)) == (kind, kind)


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 100, b"1,2,3\n", b"12345 {}\n", b"PK\x03\x04zip", "naïve\n".encode()]
)
def test_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(TapeError, match=r"x\.csv: no recording that is known; read are: tapes of mmdaemon"):
        open_recording([path], Steps())
    of_folder = (
        r"its one file, x\.csv, is no recording that is known; read are" if content else "empty; download it again"
    )
    with pytest.raises(TapeError, match=of_folder):
        open_recording([tmp_path], Steps())


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match=r"nowhere: there is no such file or folder; read are"):
        open_tape(tmp_path / "nowhere")
    with pytest.raises(TapeError, match="there is no file in it; read are"):
        open_tape(tmp_path)
    (tmp_path / "2026-01-06").mkdir()
    with pytest.raises(TapeError, match="no file in it; folders in it are not entered, name what to read: 2026-01-06"):
        open_tape(tmp_path)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("passed over")
    with pytest.raises(TapeError, match="none of its 2 files is a recording that is known; folders in it"):
        open_tape(tmp_path)
    with pytest.raises(TapeError, match="no recording was named"):
        open_tape([])


def test_files_that_are_broken_off(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(STREAM.encode() * 100)[:20])
    with pytest.raises(TapeError, match=r"x\.gz: not a whole gzip file after row 0"):
        open_recording([path], Steps())
    broken = tape(tmp_path / "y.parquet")
    broken.write_bytes(broken.read_bytes()[:-10])
    with pytest.raises(TapeError, match=r"y\.parquet: not a whole Parquet file"):
        open_recording([broken], Steps())


# --- several ----------------------------------------------------------------------------------------------------------


def test_tapes_are_chained_as_given(tmp_path: Path) -> None:
    late, early = tape(tmp_path / "a.parquet", 1_000), tape(tmp_path / "b.parquet", 0)
    assert isinstance(open_recording([early, late], Steps()), Chain)
    assert len(list(open_tape([early, late]).events())) == 5
    with pytest.raises(TapeError, match=r"b\.parquet: begins .* before .*a\.parquet ends"):
        open_recording([late, early], Steps())


def test_tapes_of_a_folder_are_chained_in_time(tmp_path: Path) -> None:
    tape(tmp_path / "a.parquet", 1_000)
    tape(tmp_path / "b.parquet", 0)
    (tmp_path / "notes.txt").write_text("passed over")
    (tmp_path / ".half.parquet.part").write_bytes(b"PAR1")
    recording = open_recording([tmp_path], Steps())
    assert [record.venue_ts_ns for record in recording.records()] == sorted(
        record.venue_ts_ns for record in recording.records()
    )
    with pytest.raises(TapeError, match=r"a\.parquet: named twice"):
        open_recording([tmp_path, tmp_path / "a.parquet"], Steps())


def test_two_formats_are_not_mixed(shared_data: Path, tmp_path: Path) -> None:
    tape(tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text(TARDIS)
    with pytest.raises(TapeError, match=r"a\.parquet is a tape of mmdaemon; .*b\.csv is a Tardis CSV: they cannot"):
        open_recording([tmp_path], Steps())
    with pytest.raises(TapeError, match=r"is a Hyperliquid recording.*is a tape of mmdaemon"):
        open_recording([shared_data / "hyperliquid_btc", tmp_path / "a.parquet"], Steps())


def test_steps_are_only_taken_where_they_are_wanted(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.parquet")
    with pytest.raises(TapeError, match=r"a tape of mmdaemon says what it is of, so symbol, tick_e10 cannot be given"):
        open_recording([path], Steps(tick_e10=E10, symbol="X"))


# --- the recordings we have -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_hyperliquid_stands_for_its_folder(shared_data: Path, name: str) -> None:
    assert open_tape(shared_data / "hyperliquid_btc" / name).instrument.symbol == "BTC"


def test_files_of_one_folder_are_one_recording(shared_data: Path) -> None:
    folder = shared_data / "hyperliquid_btc"
    assert not isinstance(open_recording([folder / name for name in FILES], Steps()), Chain)


def test_a_missing_half_is_named(shared_data: Path, tmp_path: Path) -> None:
    hyperliquid(shared_data, tmp_path, names=FILES[:1])
    with pytest.raises(TapeError, match=r"trades_BTC\.csv\.gz: missing, and a tape needs both books and trades"):
        open_tape(tmp_path)


def test_two_symbols_need_a_choice_and_an_unknown_one_is_refused(shared_data: Path, tmp_path: Path) -> None:
    hyperliquid(shared_data, tmp_path)
    hyperliquid(shared_data, tmp_path, symbol="DOGE")
    with pytest.raises(TapeError, match="recordings of BTC, DOGE in one folder"):
        open_tape(tmp_path)
    assert open_tape(tmp_path / FILES[0]).instrument.symbol == "BTC"
    with pytest.raises(TapeError, match="recording is of DOGE, whose tick and lot are not known here; known are BTC"):
        open_tape(tmp_path / "trades_DOGE.csv.gz")


def test_other_columns_below_a_known_name(tmp_path: Path) -> None:
    path = tmp_path / "orderbooks_BTC.csv.gz"
    path.write_bytes(gzip.compress(b"a,b,c\n1,2,3\n"))
    with pytest.raises(TapeError, match="no recording that is known"):
        open_tape(path)


def test_hours_of_standx_are_one_recording(shared_data: Path, tmp_path: Path) -> None:
    for name in ("orderbook", "trades"):
        shutil.copy(shared_data / "standx_btc_perp" / f"{name}_BTC-USD_2026-01-06_03.parquet", tmp_path)
    opened = open_tape([tmp_path])
    assert opened.instrument.symbol == "BTC-USD"
    assert opened.provenance["market"].startswith("recorded at standx")
    assert opened.refused


def test_a_binance_stream(shared_data: Path) -> None:
    opened = open_tape(shared_data / "binance_usdm_btcusdt")
    assert opened.instrument.symbol == "BTCUSDT"
    assert opened.span_ns is not None
    assert opened.span_ns / 1e9 == pytest.approx(345, abs=1)


# --- the extra --------------------------------------------------------------------------------------------------------


def test_without_the_extra_its_name_is_said_and_the_rest_works(shared_data: Path, tmp_path: Path) -> None:
    path = tape(tmp_path / "a.parquet")
    code = f"""
import sys
from pathlib import Path
sys.modules.update({{"numpy": None, "pyarrow": None}})  # an import of either fails
from mmdaemon.tapes.reading import open_tape
from mmdaemon.tapes.rows import TapeError
print(open_tape(Path({str(shared_data / "hyperliquid_btc")!r})).instrument.symbol)
try:
    open_tape(Path({str(path)!r}))
except TapeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "BTC"
    assert "a.parquet: needs" in done.stdout
    assert "pip install 'mmdaemon[tapes]'" in done.stdout


@pytest.mark.parametrize("content", [b"", gzip.compress(b"")], ids=["no bytes", "nothing, zipped"])
def test_an_empty_file_in_a_folder_is_not_passed_over(tmp_path: Path, content: bytes) -> None:
    """A download that failed: without its trades the recording would play, and nothing would be filled."""
    write(Made([snapshot(0)]), tmp_path / "a.parquet")
    (tmp_path / "a.parquet.part").write_bytes(b"")
    (tmp_path / "readme.txt").write_bytes(b"")
    assert len(list(open_tape(tmp_path).events())) == 2
    (tmp_path / "x_trades_2026-01-01_BTC.csv.gz").write_bytes(content)
    with pytest.raises(TapeError, match=r"BTC\.csv\.gz: the file is empty; download it again"):
        open_tape(tmp_path)


@pytest.mark.parametrize("name", ["x.csv", "x_trades_2026-01-01_BTC.csv.gz", "x.gz", "x.parquet", "x.npz"])
def test_a_file_of_a_folder_that_is_named_as_data_and_is_none_is_refused(tmp_path: Path, name: str) -> None:
    write(Made([snapshot(0)]), tmp_path / "a.parquet")
    (tmp_path / "readme.html").write_text("<html>passed over</html>")
    assert len(list(open_tape(tmp_path).events())) == 2
    (tmp_path / name).write_text("<html>404 Not Found</html>")
    with pytest.raises(
        TapeError, match=rf"{re.escape(name)}: its name says data, and it is no recording .*download it"
    ):
        open_tape(tmp_path)
