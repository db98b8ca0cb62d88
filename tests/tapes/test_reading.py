"""What a path is taken for, and how anything else is refused."""

import gzip
from pathlib import Path

import pytest

from mmdaemon.tapes.reading import open_tape
from mmdaemon.tapes.rows import TapeError

FILES = ("orderbooks_BTC.csv.gz", "trades_BTC.csv.gz", "prices_BTC.csv.gz")


def copy(shared_data: Path, folder: Path, symbol: str = "BTC", names: tuple[str, ...] = FILES) -> None:
    for name in names:
        (folder / name.replace("BTC", symbol)).symlink_to(shared_data / "hyperliquid_btc" / name)


@pytest.mark.parametrize("name", FILES)
def test_a_file_stands_for_its_folder(shared_data: Path, name: str) -> None:
    tape = open_tape(shared_data / "hyperliquid_btc" / name)
    assert tape.provenance["rows"] == "3785 orderbooks, 6675 trades, 27792 prices"
    assert tape.instrument.symbol == "BTC"


def test_other_recordings_are_refused_by_name(shared_data: Path) -> None:
    for other in ("standx_btc_perp", "bitget_history/BTC-USDT_1m_2000.csv", "binance_usdm_btcusdt"):
        with pytest.raises(TapeError, match=f"{other}.*supported now: a recording of a Hyperliquid perpetual"):
            open_tape(shared_data / other)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match=r"nowhere: there is no such file or folder; supported now"):
        open_tape(tmp_path / "nowhere")
    with pytest.raises(TapeError, match="no recording that is known, by name and header; supported now"):
        open_tape(tmp_path)


def test_files_that_only_look_like_it(tmp_path: Path) -> None:
    path = tmp_path / "orderbooks_BTC.csv.gz"
    path.write_bytes(gzip.compress(b"a,b,c\n1,2,3\n"))
    with pytest.raises(TapeError, match="no recording that is known, by name and header; supported now"):
        open_tape(path)
    path.write_text("a,b,c\n")
    with pytest.raises(TapeError, match="not a whole gzip file after row 0"):
        open_tape(path)


def test_a_missing_half_is_named(shared_data: Path, tmp_path: Path) -> None:
    copy(shared_data, tmp_path, names=FILES[:1])
    with pytest.raises(TapeError, match=r"trades_BTC\.csv\.gz: missing, and a tape needs both books and trades"):
        open_tape(tmp_path)


def test_two_symbols_need_a_choice_and_an_unknown_one_is_refused(shared_data: Path, tmp_path: Path) -> None:
    copy(shared_data, tmp_path)
    copy(shared_data, tmp_path, symbol="DOGE")
    with pytest.raises(TapeError, match="recordings of BTC, DOGE in one folder"):
        open_tape(tmp_path)
    assert open_tape(tmp_path / FILES[0]).instrument.symbol == "BTC"
    with pytest.raises(TapeError, match="recording is of DOGE, whose tick and lot are not known here; known are BTC"):
        open_tape(tmp_path / "trades_DOGE.csv.gz")
