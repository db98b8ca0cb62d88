"""Which metrics an expression of PromQL names, and which there are."""

import re
from typing import Final

from mmdaemon.ops.metrics import METRICS
from mmdaemon.ops.metrics_health import DISTRIBUTIONS

FOREIGN: Final = frozenset(
    {
        *("up", "scrape_duration_seconds", "ALERTS"),
        *("process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_cpu_seconds_total"),
        "process_start_time_seconds",
    }
)
"""Of Prometheus itself, and of prometheus-client. The end-to-end run sees each of them."""

WORDS: Final = frozenset(
    {
        *("and", "or", "unless", "on", "ignoring", "without", "by", "bool"),
        *("abs", "absent", "changes", "count", "delta", "histogram_quantile", "increase", "last_over_time", "max"),
        *("min_over_time", "rate", "sum", "time", "vector"),
    }
)


def exposed() -> set[str]:
    """Every name that a scrape may hold, those that are absent while unknown too."""
    spreads = {f"{each.name}{end}" for each in DISTRIBUTIONS for end in ("_bucket", "_sum", "_count")}
    return {each.name for each in METRICS} | spreads


def metrics_of(expression: str) -> set[str]:
    """Names of metrics in an expression: what is no word of PromQL, no label and no number."""
    bare = re.sub(r"\b\d[\d.]*(e-?\d+)?", "", re.sub(r'"[^"]*"', "", expression))
    bare = re.sub(r"\[[^\]]*\]", "", re.sub(r"\{[^}]*\}", "", bare))
    bare = re.sub(r"\b(on|ignoring|without|by|group_left)\s*\([^)]*\)", "", bare)
    return {name for name in re.findall(r"[a-zA-Z_:][\w:]*", bare) if name not in WORDS}


def expressions(text: str) -> list[str]:
    """Each `expr`, of one line or of a block."""
    return re.findall(
        r"^ *expr: (?:\|-\n)?((?:(?! *(?:for|labels|annotations|- alert|- record|- name|$|#)).*\n)+)",
        text,
        re.MULTILINE,
    )


def records_of(text: str) -> set[str]:
    """Names that the rules record."""
    return set(re.findall(r"- record: (\S+)", text))
