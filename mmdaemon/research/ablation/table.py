"""Results -> tables, the same for terminal, Markdown and page; and what they say of the bar of the comparison."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from mmdaemon.research.ablation.bootstrap import difference, interval
from mmdaemon.research.ablation.results import Prepared, Result, code_digest
from mmdaemon.research.ablation.rows import BY_NAME, COMMON, GATED, OPEN, ROWS, RULE, Group
from mmdaemon.research.ablation.score import Score
from mmdaemon.research.calibration.blocks import LEAST_BLOCKS
from mmdaemon.research.calibration.records import Interval
from mmdaemon.settings.model import default_of
from mmdaemon.settings.presets import Value

LEAST_FILLS: Final = 30
"""A rule with fewer is no best baseline: its e5 is an accident."""
BETTER_BPS: Final = 0.10
TWO_SIDED: Final = 0.90
AS_MUCH_AS: Final = "fixed_2_5"
"""The rule whose participation is the least that counts."""
UNKNOWN: Final = "–"


class Table(NamedTuple):
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str]


class Setting(NamedTuple):
    """All rows of one recording under one assumption of fills."""

    tape: Prepared
    fills: str
    results: dict[str, Result]

    def scores(self, groups: Iterable[Group]) -> list[tuple[Result, Score]]:
        """Of what was played, in the order of `ROWS`."""
        wanted = frozenset(groups)
        found = [self.results[row.name] for row in ROWS if row.group in wanted and row.name in self.results]
        return [(result, result.scored) for result in found if result.scored is not None]

    @property
    def best(self) -> tuple[Result, Score] | None:
        """The rule of others with the best e5, of those that stand for themselves or for their family."""
        known = [
            (result, score)
            for result, score in self.scores((Group.RULE,))
            if score.fills >= LEAST_FILLS and score.e5 is not None and result.row not in self.passed_over
        ]
        return max(known, key=lambda each: each[1].e5 or 0.0, default=None)

    @property
    def passed_over(self) -> frozenset[str]:
        """Rules with a parameter that does not stand for their family: it is the one with the best e5 on the hours that
        were fitted on, of those that traded there at least what `AS_MUCH_AS` did; where none did, the first. The hours
        that are scored have no say in it."""
        over: set[str] = set()
        least = self._learned(AS_MUCH_AS)
        for family in {row.family for row in ROWS if row.family}:
            names = [row.name for row in ROWS if row.family == family and row.name in self.results]
            known = [(name, score) for name in names if (score := self._learned(name)) is not None]
            trading = [(n, s) for n, s in known if least is not None and s.value >= least.value and s.e5 is not None]
            chosen = max(trading, key=lambda each: each[1].e5 or 0.0)[0] if trading else next(iter(names), "")
            over |= {name for name in names if name != chosen}
        return frozenset(over)

    def _learned(self, name: str) -> Score | None:
        found = self.results.get(name)
        return None if found is None else found.learned

    def label(self, result: Result) -> str:
        """What a row is called; where no signal could be fitted, ours quote with the preset's."""
        name = BY_NAME[result.row].label
        if self.tape.fitted.signal is None:
            name = name.replace("fitted signal", "its own signal")
        return name + (f" (stopped: {result.stopped})" if result.stopped else "")

    @property
    def full(self) -> Score | None:
        found = self.results.get("full")
        return None if found is None else found.scored


COMPARED: Final = (Group.FULL, Group.OFF, Group.PRESET, Group.RULE)


def settings_of(tapes: Sequence[Prepared], results: Sequence[Result]) -> list[Setting]:
    """Recordings as given, `queue` first."""
    found: list[Setting] = []
    for tape in tapes:
        for fills in ("queue", "through", "touch"):
            rows = {result.row: result for result in results if result.tape == tape.name and result.fills == fills}
            if rows:
                found.append(Setting(tape, fills, rows))
    return found


def edges(setting: Setting) -> Table:
    """The comparison itself."""
    best, full, over = setting.best, setting.full, setting.passed_over
    against = f"less best rule ({best[0].row})" if best else "less best rule"
    columns = (
        "row",
        "e5, bps",
        "95 %",
        against,
        "less full",
        "value/h, k",
        "of tape",
        "fills",
        "both sides",
        "e5, whole",
    )
    rows: list[tuple[str, ...]] = []
    for result, score in setting.scores(COMPARED):
        rows.append(
            (
                setting.label(result) + (" *" if result.row in over else ""),
                number(score.e5),
                span(interval(score.sums)),
                less(score, best[1] if best and best[0].row != result.row else None),
                less(score, full if result.row != "full" else None),
                f"{score.value_an_hour / 1e3:,.1f}",
                share(score.tape_share),
                f"{score.fills:,}",
                share(score.two_sided),
                number(result.whole.e5 if result.whole else None),
            )
        )
    notes = _refused(setting, COMPARED)
    if over & setting.results.keys():
        notes.append(
            "* does not stand for its rule: on the hours that were fitted on another parameter had the better e5, or "
            f"this one traded less than `{AS_MUCH_AS}`"
        )
    blocks = len(full.sums.value) if full is not None else LEAST_BLOCKS
    if blocks < LEAST_BLOCKS:
        notes.append(f"{blocks} blocks of time are too few for intervals ({LEAST_BLOCKS} are needed)")
    return Table("Edge and participation", columns, rows, notes)


def risks(setting: Setting) -> Table:
    columns = (
        "row",
        "largest/cap",
        "lots over",
        "at cap",
        "PnL",
        "spread",
        "impact",
        "inventory",
        "drawdown",
        "cancels/min",
        "amends/min",
    )
    rows: list[tuple[str, ...]] = []
    for result, score in setting.scores(COMPARED):
        parts = score.attribution or {}
        rows.append(
            (
                setting.label(result),
                share(score.max_share, 2),
                UNKNOWN if score.over_cap_lots is None else f"{score.over_cap_lots}",
                share(score.at_cap),
                money(score.pnl),
                *(money(parts.get(name)) for name in ("spread", "impact", "inventory")),
                money(score.drawdown),
                f"{score.a_minute(score.cancels):,.1f}",
                f"{score.a_minute(score.amends):,.1f}",
            )
        )
    return Table("Position, money and messages", columns, rows, [])


def horizons(setting: Setting) -> Table:
    columns = ("row", "effective", "e1", "e5", "e30", "e60", "e5, mid", "e5, venue's clock", "without e5")
    rows: list[tuple[str, ...]] = []
    for result, score in setting.scores(COMPARED):
        rows.append(
            (
                setting.label(result),
                number(score.effective),
                *(number(score.edges[h]) for h in ("1", "5", "30", "60")),
                number(score.e5_mid),
                number(score.e5_venue),
                f"{score.unavailable:,}",
            )
        )
    return Table("Edge by horizon, bps", columns, rows, [])


def gates(setting: Setting) -> Table:
    columns = ("row", "not quoting", "because", "RUNNING", "fills", "value/h, k", "e5, bps", "PnL", "fees", "drawdown")
    rows: list[tuple[str, ...]] = []
    for result, score in setting.scores((Group.GATED,)):
        because = ", ".join(f"{why} {share(part)}" for why, part in score.absent.items() if part >= 0.001)
        parts = score.attribution or {}
        rows.append(
            (
                setting.label(result),
                share(sum(score.absent.values())),
                because or "nothing",
                share(score.guard.get("running", 0.0)),
                f"{score.fills:,}",
                f"{score.value_an_hour / 1e3:,.1f}",
                number(score.e5),
                money(score.pnl),
                money(parts.get("fees")),
                money(score.drawdown),
            )
        )
    return Table("Staying out, with a maker fee of 2 bps", columns, rows, _refused(setting, (Group.GATED,)))


def tables_of(setting: Setting) -> list[Table]:
    made = [make(setting) for make in (edges, risks, horizons, gates)]
    return [table for table in made if table.rows or table.notes]


class Verdict(NamedTuple):
    name: str
    holds: bool | None
    """None: cannot be known."""
    text: str


def bar(setting: Setting) -> list[Verdict]:
    """What the full strategy was to reach on the StandX day."""
    full, best = setting.full, setting.best
    if full is None or full.e5 is None or best is None:
        return []
    _, rule = best
    found = difference(full.sums, rule.sums)
    ahead = full.e5 - (rule.e5 or 0.0)
    least = setting.results.get(AS_MUCH_AS)
    verdicts = [
        Verdict(
            "edge",
            None if found is None else ahead >= BETTER_BPS and found.low > 0,
            f"e5 {full.e5:+.3f} bps is {ahead:+.3f} {span(found)} from the best rule's ({best[0].row} "
            f"{rule.e5 or 0.0:+.3f}); asked: {BETTER_BPS:+.2f} and an interval above 0",
        )
    ]
    if least is not None and least.scored is not None:
        verdicts.append(
            Verdict(
                "participation",
                full.value >= least.scored.value,
                f"{full.value_an_hour / 1e3:,.1f} k an hour; asked: {least.scored.value_an_hour / 1e3:,.1f} k, as "
                f"{AS_MUCH_AS}",
            )
        )
    sided = None if full.two_sided is None else full.two_sided >= TWO_SIDED
    asked = f"{share(full.two_sided)} of healthy time; asked: {TWO_SIDED:.0%}"
    verdicts.append(Verdict("both sides", sided, asked))
    verdicts.append(
        Verdict(
            "cap",
            None if full.over_cap_lots is None else full.over_cap_lots <= 0,
            f"at most {full.over_cap_lots} lots above it; by value, at the fill's price, {share(full.max_share, 2)}",
        )
    )
    return verdicts


def assumed(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Settings that are not as shipped: (which rows, what)."""

    def said(values: dict[str, Value]) -> str:
        told = {path: value for path, value in values.items() if not path.startswith("regimes.")}
        return ", ".join(
            f"{path} = {value:g}" if isinstance(value, float) else f"{path} = {str(value).lower()}"
            for path, value in told.items()
        )

    lines = [
        ("all", said(dict(COMMON)) + ": orders of 1,000, and a position of at most ten"),
        ("all but those with gates", said(dict(OPEN))),
        ("the rules of others", said(dict(RULE))),
        ("with gates", said(dict(GATED))),
    ]
    ages = {str(r.tape): r.over["guard.book_age_max_s"] for r in results if "guard.book_age_max_s" in r.over}
    lines += [
        (tape, f"guard.book_age_max_s = {age:g} (shipped: {default_of('guard.book_age_max_s'):g})")
        for tape, age in ages.items()
    ]
    return lines


def other_code(results: Sequence[Result]) -> str:
    """What to say of results that were played with other code than today's; empty where there is none."""
    old = [f"{each.tape} {each.fills} {each.row}" for each in results if each.code != code_digest()]
    return f"Played with other code than today's: {', '.join(old)}" if old else ""


# --- words ------------------------------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:+.3f}"


def money(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.1f}"


def share(value: float | None, digits: int = 1) -> str:
    return UNKNOWN if value is None else f"{100 * value:.{digits}f} %"


def span(found: Interval | None) -> str:
    return UNKNOWN if found is None else f"[{found.low:+.3f}, {found.high:+.3f}]"


def less(one: Score, other: Score | None) -> str:
    """Difference of e5 with its paired interval."""
    if other is None or one.e5 is None or other.e5 is None:
        return UNKNOWN
    return f"{one.e5 - other.e5:+.3f} {span(difference(one.sums, other.sums))}"


def _refused(setting: Setting, groups: Iterable[Group]) -> list[str]:
    wanted = frozenset(groups)
    return [
        f"{BY_NAME[result.row].label}: not played: {result.refused}"
        for result in setting.results.values()
        if result.refused and BY_NAME[result.row].group in wanted
    ]


Make = Callable[[Setting], Table]
