"""What must hold between settings, each bound by itself being met.

A rule whose values are not all valid is silent: its turn comes when they are.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from mmdaemon.core.fill_quality import BLOCKS_LEAST, block_ns
from mmdaemon.core.markout import HORIZONS_S
from mmdaemon.core.types import NS, Regime
from mmdaemon.settings.presets import Value

REAL_MODES = frozenset({"testnet", "live"})
PROVEN: Final = frozenset({"bitget"})
"""Exchanges of which `docs/VENUES.md` says what was proven, and how."""
IN_FLIGHT_FLOOR_S: Final = 15.0
"""At a real venue: longer than it accepts an old signature."""
IN_FLIGHT_FLOORS_S: Final[Mapping[str, float]] = {"bitget": 30.0}
"""Where it is known to be more. Bitget's is reported, and to be measured on demo trading."""
DEAD_MAN_LEAST_S: Final = 5
STOP_LEAST_BPS: Final = 50.0
"""A stop that is nearer would be hit by what the quotes are there for."""
EMULATOR: Final = re.compile(r"http://127\.0\.0\.1:([1-9][0-9]{0,4})")
"""A literal of the loopback, so that no name and no proxy can lead anywhere else."""

LEAST_BPS = 0.01
"""No fee, edge or width is less, unless it is none: 1e-6 of the price."""

AT_MOST = (
    ("detector.middle_band_bps", "detector.shock_band_bps"),
    ("detector.absolute_middle_bps", "detector.absolute_shock_bps"),
    ("derisk.touch_after_s", "derisk.taker_after_s"),
    ("detector.middle_quantile", "detector.shock_quantile"),
    ("cost.turnover_soft_multiple", "cost.turnover_cap_multiple"),
    ("guard.margin_hard_fraction", "guard.margin_soft_fraction"),
    ("venue.reconcile_position_s", "guard.position_unknown_s"),
    ("quotes.depth_levels", "venue.book_depth"),
    ("limits.max_order_quote", "quotes.max_position_quote"),
    ("limits.cancels_per_minute", "limits.messages_per_minute"),
    ("simulated.request_latency_s", "venue.in_flight_max_s"),
    *((f"regimes.{regime}.{what}_min{unit}", f"regimes.{regime}.{what}_max{unit}")
      for regime in Regime for what, unit in (("spread", "_bps"), ("levels", ""))),
)  # fmt: skip
"""The first may not exceed the second."""


def contradictions(flat: Mapping[str, Value]) -> Iterator[tuple[str, str]]:
    """Pairs of (path, reason) for settings that do not go together. `flat` holds the valid values by path."""
    number = {path: float(value) for path, value in flat.items() if isinstance(value, int | float)}
    for path, value in number.items():
        if path.endswith("_bps") and 0 < abs(value) < LEAST_BPS:
            yield (
                path,
                f"is less than {LEAST_BPS:g} bps, and not 0: it looks like a fraction of price, which is "
                f"{value * 1e4:.6g} bps",
            )
    for less, more in AT_MOST:
        if less in number and more in number and number[less] > number[more]:
            yield less, f"exceeds {more} = {flat[more]}"

    for regime in Regime:
        row = f"regimes.{regime}"
        levels = number.get(f"{row}.levels_max", 0.0)
        size = number.get(f"{row}.order_size_fraction", 0.0)
        if 2 * levels > number.get("limits.max_open_orders", 2 * levels):
            most = flat["limits.max_open_orders"]
            yield f"{row}.levels_max", f"two sides of it exceed limits.max_open_orders = {most}"
        if levels * size > number.get("quotes.max_position_fraction", levels * size):
            position = flat["quotes.max_position_fraction"]
            yield f"{row}.order_size_fraction", f"one side's levels exceed quotes.max_position_fraction = {position}"
        if number.get(f"{row}.spread_max_bps", 0.0) / 2 > number.get("limits.collar_bps", float("inf")):
            yield f"{row}.spread_max_bps", f"half of it lies outside limits.collar_bps = {flat['limits.collar_bps']}"

    if flat.get("quality.pull_horizon_s", HORIZONS_S[0]) not in HORIZONS_S:
        yield (
            "quality.pull_horizon_s",
            f"must be one of the horizons that are measured: {', '.join(map(str, HORIZONS_S))}",
        )
    horizon_s, memory_s = number.get("quality.pull_horizon_s", 0.0), number.get("quality.pull_memory_s", float("inf"))
    if memory_s < (least_s := BLOCKS_LEAST * block_ns(round(horizon_s)) / NS):
        yield (
            "quality.pull_memory_s",
            f"is below {least_s:g}: a side is judged by {BLOCKS_LEAST} blocks of fills at least, so none ever would be",
        )
    if flat.get("quotes.model") == "glft" and number.get("glft.fit_r2", 1.0) < number.get("glft.fit_r2_min", 0.0):
        yield (
            "glft.fit_r2",
            f"is below glft.fit_r2_min = {flat['glft.fit_r2_min']}: the model would quote from a fit that is none; run "
            "`mmdaemon calibrate` on a longer recording, or set quotes.model to ladder",
        )

    if flat.get("venue.remote"):
        if flat.get("run.speed") == "max":
            yield "run.speed", "virtual time is for the venue in the daemon's process (venue.remote is set)"
        if flat.get("run.tape"):
            yield "run.tape", "the market is the venue process's: give the recording to `mmdaemon venue --tape`"

    sources = str(flat.get("signals.sources", "")).split()
    for path in ("signals.shadow_sources", "signals.careful_sources"):
        if "signals.sources" in flat and (others := set(str(flat.get(path, "")).split()) - set(sources)):
            yield path, f"must be of signals.sources, which does not name {', '.join(sorted(others))}"

    yield from _at_an_exchange(flat, number)


def in_flight_floor_s(exchange: str, emulator: str) -> float:
    """The least `venue.in_flight_max_s` of testnet and live: the emulator's signature window is a setting of its own,
    and its user's affair."""
    return 1.0 if emulator else IN_FLIGHT_FLOORS_S.get(exchange, IN_FLIGHT_FLOOR_S)


def is_emulator(url: str) -> bool:
    """Whether that is an address that `venue.emulator` may have."""
    found = EMULATOR.fullmatch(url)
    return found is not None and int(found[1]) <= 65_535


def _at_an_exchange(flat: Mapping[str, Value], number: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    mode, emulator = flat.get("run.mode"), str(flat.get("venue.emulator", ""))
    if emulator and not is_emulator(emulator):
        yield "venue.emulator", "must be http://127.0.0.1:PORT, the address that `mmdaemon emulator` prints"
    elif emulator and flat.get("venue.exchange", "bitget") != "bitget":
        yield "venue.exchange", "must be bitget while venue.emulator is set: it is Bitget that is emulated"
    elif emulator and mode == "simulated":
        yield (
            "venue.emulator",
            "must be empty in a simulated run: an emulator is for `mmdaemon run --paper`, --testnet or --live",
        )
    if 0 < number.get("venue.dead_man_s", 0) < DEAD_MAN_LEAST_S:
        yield "venue.dead_man_s", f"is below {DEAD_MAN_LEAST_S}, the shortest countdown that there is, and not 0"
    if 0 < number.get("venue.stop_bps", 0) < STOP_LEAST_BPS:
        yield "venue.stop_bps", f"is below {STOP_LEAST_BPS:g}, and not 0: quotes would set it off"
    if mode in REAL_MODES:
        exchange = str(flat.get("venue.exchange", ""))
        least_s = in_flight_floor_s(exchange, emulator)
        if not emulator:
            # What is signed by a clock that is ahead is good for so much longer by ours.
            least_s += number.get("guard.clock_offset_max_s", 0.0)
        if number.get("venue.in_flight_max_s", least_s) < least_s:
            where = "at the emulator" if emulator else f"at {exchange}"
            yield "venue.in_flight_max_s", f"is below {least_s:g}, the least {where} (run.mode = {mode})"
        if flat.get("journal.durability", "power") != "power":
            yield "journal.durability", f'must be "power" where money trades (run.mode = {mode})'
        if mode == "live" and exchange and exchange not in PROVEN and flat.get("venue.insist_unproven") is False:
            yield (
                "venue.exchange",
                f"must be proven, and nothing is of {exchange}: set venue.insist_unproven to trade live there",
            )
    if mode in REAL_MODES or mode == "paper":
        if flat.get("run.tape"):
            yield "run.tape", f"a recording is replayed at the simulated venue only (run.mode = {mode})"
        if flat.get("run.speed") == "max":
            yield "run.speed", f"virtual time is for the simulated venue only (run.mode = {mode})"
        if flat.get("venue.remote"):
            yield "venue.remote", f"a venue process is a simulated venue (run.mode = {mode})"
