"""e5 with its interval against participation: one SVG a recording, which needs no script and no other file."""

import html
from math import ceil, floor, log10
from typing import Final, NamedTuple

from mmdaemon.research.ablation.bootstrap import interval
from mmdaemon.research.ablation.rows import BY_NAME, Group
from mmdaemon.research.ablation.table import COMPARED, LEAST_FILLS, Setting

WIDTH, HEIGHT = 980, 430
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 370, 34, 46
_COLOURS: Final = {
    Group.FULL: "blue",
    Group.OFF: "sky",
    Group.PRESET: "green",
    Group.RULE: "orange",
}
_STYLE: Final = """
.ab { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; --ink: #1d2530; --soft: #5c6672;
  --rule: #e4e6e9; --blue: #0072b2; --sky: #4aa3d8; --green: #00855f; --orange: #d98a00; --paper: #ffffff; }
@media (prefers-color-scheme: dark) { .ab { --ink: #e3e8ee; --soft: #a0aab6; --rule: #2a313a; --blue: #4ca9e0;
  --sky: #86c8ee; --green: #35b48c; --orange: #eba52f; --paper: #181d24; } }
.ab text { fill: var(--ink); } .ab .soft { fill: var(--soft); } .ab .grid { stroke: var(--rule); }
.ab .zero { stroke: var(--soft); } .ab .blue { stroke: var(--blue); fill: var(--blue); }
.ab .sky { stroke: var(--sky); fill: var(--sky); } .ab .green { stroke: var(--green); fill: var(--green); }
.ab .orange { stroke: var(--orange); fill: var(--orange); } .ab .back { fill: var(--paper); }
.ab .few { fill: none; }
"""


class _Point(NamedTuple):
    number: int
    name: str
    colour: str
    value_k: float
    e5: float
    low: float
    high: float
    few: bool


def svg(setting: Setting) -> str:
    """Empty where nothing has an e5."""
    points = _points(setting)
    if not points:
        return ""
    low, high = _bounds(points)
    decades = floor(log10(min(p.value_k for p in points))), ceil(log10(max(p.value_k for p in points)))
    first, last = decades if decades[0] < decades[1] else (decades[0], decades[0] + 1)
    across, down = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def x(value_k: float) -> float:
        return _LEFT + across * (log10(value_k) - first) / (last - first)

    def y(bps: float) -> float:
        return _TOP + down * (high - max(low, min(high, bps))) / (high - low)

    title = f"{setting.tape.name}, fills by {setting.fills}: e5 (bps of value, before fees) against value traded"
    drawn = [
        f'<svg class="ab" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text x="{_LEFT}" y="18" font-weight="600" font-size="13">{html.escape(title)}</text>',
    ]
    for bps in _ticks(low, high):
        kind = "zero" if abs(bps) < 1e-9 else "grid"
        drawn.append(f'<line class="{kind}" x1="{_LEFT}" x2="{_LEFT + across}" y1="{y(bps):.1f}" y2="{y(bps):.1f}"/>')
        drawn.append(f'<text class="soft" x="{_LEFT - 8}" y="{y(bps) + 4:.1f}" text-anchor="end">{bps:+.2f}</text>')
    for power in range(first, last + 1):
        at, shown = x(10.0**power), f"{10.0**power:,.10g}k"
        drawn.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{_TOP + down}"/>')
        drawn.append(f'<text class="soft" x="{at:.1f}" y="{_TOP + down + 16}" text-anchor="middle">{shown}</text>')
    middle = _LEFT + across / 2
    drawn.append(
        f'<text class="soft" x="{middle:.1f}" y="{HEIGHT - 10}" text-anchor="middle">'
        "value traded an hour, quote currency, logarithmic</text>"
    )
    for point in reversed(points):  # the full strategy is the first, and lies on top
        at, mark = x(point.value_k), y(point.e5)
        few = " few" if point.few else ""
        told = f"{point.name}: e5 {point.e5:+.3f} [{point.low:+.3f}, {point.high:+.3f}], {point.value_k:,.1f}k an hour"
        drawn.append(f'<g class="{point.colour}"><title>{html.escape(told)}</title>')
        drawn.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y(point.low):.1f}" y2="{y(point.high):.1f}"/>')
        drawn.append(f'<circle class="{point.colour}{few}" cx="{at:.1f}" cy="{mark:.1f}" r="4"/></g>')
        drawn.append(f'<text x="{at + 6:.1f}" y="{mark - 4:.1f}" font-size="10">{point.number}</text>')
    for place, point in enumerate(points):
        top = _TOP + 6 + place * min(18.0, down / len(points))
        few = " few" if point.few else ""
        left = WIDTH - _RIGHT + 26
        drawn.append(f'<circle class="{point.colour}{few}" cx="{left}" cy="{top - 4:.1f}" r="4"/>')
        drawn.append(f'<text x="{left + 10}" y="{top:.1f}">{point.number} {html.escape(point.name)}</text>')
    left = WIDTH - _RIGHT + 20
    note = f"bars: 95 %; hollow: under {LEAST_FILLS} fills; at an edge: beyond it"
    drawn.append(f'<text class="soft" x="{left}" y="{HEIGHT - 10}" font-size="10">{note}</text></svg>')
    return "\n".join(drawn)


def _points(setting: Setting) -> list[_Point]:
    points: list[_Point] = []
    for result, score in setting.scores(COMPARED):
        if score.e5 is None or not score.value:
            continue
        row, found = BY_NAME[result.row], interval(score.sums)
        low, high = (score.e5, score.e5) if found is None else (found.low, found.high)
        value_k, few = score.value_an_hour / 1e3, score.fills < LEAST_FILLS
        name = setting.label(result).replace("`", "")
        points.append(_Point(len(points) + 1, name, _COLOURS[row.group], value_k, score.e5, low, high, few))
    return points


def _bounds(points: list[_Point]) -> tuple[float, float]:
    """By the points that are known well; what lies beyond is drawn at the edge."""
    known = [point for point in points if not point.few] or points
    low, high = min(point.e5 for point in known), max(point.e5 for point in known)
    room = max(0.1, 0.25 * (high - low))
    return min(low - room, 0.0), max(high + room, 0.0)


def _ticks(low: float, high: float) -> list[float]:
    step = 10.0 ** floor(log10((high - low) / 4))
    step *= next(times for times in (1, 2, 5, 10) if (high - low) / (step * times) <= 7)
    return [round(step * place, 6) for place in range(ceil(low / step), floor(high / step) + 1)]
