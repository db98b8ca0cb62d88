"""The alerts' unit tests, one case each: the shortest life of its condition that must be told, and calm around it.

    python -m tests.monitoring.rule_cases      writes config/monitoring/mmdaemon.rules.test.yml anew (a test compares)

Samples come every 15 s from 0 on, as in the example configuration. "5x9" is a value and nine repetitions of it.
"""

import sys
from pathlib import Path
from typing import Final, NamedTuple

MONITORING: Final = Path(__file__).resolve().parents[2] / "config" / "monitoring"
RULES: Final = MONITORING / "mmdaemon.rules.yml"
UNIT_TESTS: Final = MONITORING / "mmdaemon.rules.test.yml"
STEP_S: Final = 15


class Case(NamedTuple):
    alert: str
    series: dict[str, str]
    """Name with labels (without those of the target) -> samples."""
    fires_s: int
    quiet_s: tuple[int, ...]
    """When it must not fire: before, and after."""
    why: str = ""
    ends: bool = True
    """The condition ends within the case, so that a longer `for` would miss it."""


def bumped(at: int, of: int = 60) -> str:
    """A counter that grows by one at the sample `at`: what it counted was over before the next one."""
    return f"0x{at - 1} 1x{of - at}"


def _reason(alert: str, reason: str) -> Case:
    """It held for a second, between two scrapes: the state was never seen, the counter was."""
    labels = f'{{reason="{reason}"}}'
    return Case(
        alert,
        {f"mmdaemon_guard_reason{labels}": "0x60", f"mmdaemon_guard_reason_raised_total{labels}": bumped(8)},
        135,
        (105, 240),
        "one second, between two scrapes",
    )


def _latency(alert: str, name: str, over_s: float, labels: str = "") -> Case:
    """For six minutes everything is slower than the bound, then nothing comes."""
    comma = labels and f"{labels},"
    return Case(
        alert,
        {
            f'{name}_bucket{{{comma}le="{over_s:g}"}}': "0x100",
            f'{name}_bucket{{{comma}le="+Inf"}}': "0x20 0+10x24 240x60",
        },
        645,
        (300, 1200),
        "six minutes",
    )


CASES: Final[tuple[Case, ...]] = (
    Case(
        "MmdaemonHardStop",
        {
            'mmdaemon_guard_state{state="hard_stop"}': "0x60",
            'mmdaemon_guard_entries_total{state="hard_stop"}': bumped(8),
        },
        135,
        (105, 240),
        "one second, between two scrapes",
    ),
    Case(
        "MmdaemonKilled",
        {
            'mmdaemon_kill_state{state="armed"}': "1x60",
            'mmdaemon_guard_reason_raised_total{reason="kill"}': bumped(8),
        },
        135,
        (105, 240),
        "one second, between two scrapes",
    ),
    _reason("MmdaemonDailyLoss", "daily_loss"),
    _reason("MmdaemonDailyLoss", "drawdown"),
    _reason("MmdaemonMarginGone", "margin_hard"),
    _reason("MmdaemonPartDied", "task_died"),
    _reason("MmdaemonOrdersRefused", "reject_streak"),
    _reason("MmdaemonOrdersRefused", "repeated_execution"),
    _reason("MmdaemonOrdersRefused", "cancel_breaches"),
    _reason("MmdaemonAccountWrong", "account_facts"),
    _reason("MmdaemonSecondInstance", "second_instance"),
    _reason("MmdaemonBreakUnresolved", "break"),
    Case(
        "MmdaemonSoftPause",
        {
            # From one to the other and back: together it never quoted.
            'mmdaemon_guard_state{state="soft_pause"}': "0x3 1x40 0x20 1x24 0x20",
            'mmdaemon_guard_state{state="reconciling"}': "0x3 0x40 1x20 0x24 0x20",
            'mmdaemon_guard_state{state="starting"}': "0x120",
        },
        1305,
        (1200, 1500),
        "21 minutes in two states",
    ),
    Case("MmdaemonRestarted", {"mmdaemon_run_epoch": "3x8 4x60"}, 150, (105, 780), "it was gone between two scrapes"),
    Case("MmdaemonDown", {"up": "1x7 0x4 1x40"}, 165, (105, 240), "a minute"),
    Case(
        "MmdaemonHeartbeatLost",
        {"mmdaemon_heartbeat_timestamp_seconds": "0+15x7 105x5 195+15x40"},
        180,
        (105, 240),
        "75 s",
    ),
    Case("MmdaemonTargetMissing", {'up{job="another"}': "1x60"}, 345, (), ends=False),
    Case("MmdaemonScrapeSlow", {"scrape_duration_seconds": "0.01x7 0.9x22 0.01x40"}, 435, (105, 500), "six minutes"),
    Case("MmdaemonLogsDropped", {"mmdaemon_logs_dropped_total": bumped(8)}, 135, (105, 780), "one line"),
    _latency("MmdaemonLoopLag", "mmdaemon_loop_lag_spread_seconds", 0.25),
    Case("MmdaemonMemory", {"process_resident_memory_bytes": "15e7x7 2e9x44 15e7x40"}, 765, (105, 840), "11 minutes"),
    Case(
        "MmdaemonDescriptors",
        {"process_open_fds": "30x7 900x44 30x40", "process_max_fds": "1024x100"},
        765,
        (105, 840),
        "11 minutes",
    ),
    Case("MmdaemonClockOff", {"mmdaemon_clock_offset_seconds": "0x7 -0.7x5 0x40"}, 195, (105, 240), "75 s, behind"),
    Case("MmdaemonBookStale", {"mmdaemon_book_healthy": "1x7 0x3 1x40"}, 150, (105, 240), "45 s"),
    Case("MmdaemonLinkDown", {'mmdaemon_link_up{link="private"}': "1x7 0x9 1x40"}, 255, (105, 300), "150 s"),
    Case("MmdaemonReconnects", {'mmdaemon_link_losses_total{link="public"}': "0x7 5x40"}, 150, (105, 780), "five"),
    Case("MmdaemonFundingHigh", {"mmdaemon_funding_rate_ratio": "1e-4x7 -4e-4 1e-4x40"}, 120, (105, 150), "a scrape"),
    Case("MmdaemonFeesUnknown", {"mmdaemon_fees_known": "1x7 0x22 1x40"}, 435, (105, 500), "six minutes"),
    Case("MmdaemonFeesCharged", {"mmdaemon_charged_otherwise_total": bumped(8, 90)}, 135, (105, 1080), "one fill"),
    _latency("MmdaemonVenueSlow", "mmdaemon_send_to_answer_seconds", 2, 'request="place"'),
    _latency("MmdaemonTickLatency", "mmdaemon_event_to_send_seconds", 0.25),
    Case(
        "MmdaemonFillsAfterPause",
        {
            'mmdaemon_fills_after_pause_total{when="later"}': bumped(8),
            'mmdaemon_fills_after_pause_total{when="in_flight"}': "0+1x60",
        },
        135,
        (105, 240),
        "one fill; those that met their cancel on the way do not count",
    ),
    Case("MmdaemonHardBreak", {'mmdaemon_open_breaks{weight="hard"}': "0x7 1x5 0x40"}, 195, (105, 240), "75 s"),
    Case("MmdaemonOpenBreak", {'mmdaemon_open_breaks{weight="soft"}': "0x7 1x44 0x40"}, 765, (105, 840), "11 minutes"),
    Case(
        "MmdaemonDayLossNear",
        {
            "mmdaemon_equity_day_open_quote": "1000x60",
            "mmdaemon_equity_quote": "1000x7 979x5 1000x40",
            'mmdaemon_limit_ratio{of="daily_loss"}': "0.03x60",
            'mmdaemon_limit_ratio{of="drawdown"}': "0.05x60",
        },
        195,
        (105, 240),
        "75 s at 2.1 per cent of 3",
    ),
    Case(
        "MmdaemonMarginLow",
        {
            "mmdaemon_margin_available_ratio": "0.5x7 0.15x5 0.5x40",
            'mmdaemon_limit_ratio{of="margin_soft"}': "0.2x60",
            'mmdaemon_limit_ratio{of="margin_hard"}': "0.1x60",
        },
        195,
        (105, 240),
        "75 s",
    ),
    Case(
        "MmdaemonPositionFull",
        {"mmdaemon_position_base": "0x7 -0.95x44 0x40", "mmdaemon_position_limit_base": "1x100"},
        765,
        (105, 840),
        "11 minutes, short",
    ),
    Case("MmdaemonDeriskStalled", {"mmdaemon_derisk_seconds": "0x7 890 905 0x40"}, 135, (120, 180), "a scrape"),
    Case(
        "MmdaemonNoFills",
        {
            'mmdaemon_fills_total{side="buy"}': "0+1x40 40x130 41x60",
            'mmdaemon_fills_total{side="sell"}': "5x230",
            'mmdaemon_guard_state{state="running"}': "1x230",
            "mmdaemon_start_timestamp_seconds": "0x230",
        },
        2430,
        (1500, 2370, 2700),
        "31 minutes",
    ),
    Case(
        "MmdaemonMarkoutNegative",
        {
            'mmdaemon_markouts_total{side="buy",horizon="5s"}': "0x4 0+1x60 60x80",
            'mmdaemon_markouts_total{side="sell",horizon="5s"}': "0x160",
            'mmdaemon_markout_sum_ratio{side="buy",horizon="5s"}': "0x4 0+0.0001x60 0.006x80",
            'mmdaemon_markout_sum_ratio{side="sell",horizon="5s"}': "0x160",
            'mmdaemon_fee_rate_ratio{of="maker"}': "0.0002x160",
            "mmdaemon_run_epoch": "3x160",
        },
        240,
        (90, 1920),
        "each is worth 1 bp and is charged 2",
    ),
    Case(
        "MmdaemonOrderFailures",
        {
            'mmdaemon_order_failures_total{what="rejected"}': "0x7 6x60",
            'mmdaemon_order_failures_total{what="unknown"}': "0x70",
            "mmdaemon_commands_sent_total": "0x7 40x60",
        },
        150,
        (105, 780),
        "six of forty",
    ),
    Case("MmdaemonUnprotected", {"mmdaemon_unprotected_seconds": "0x7 31+15x5 0x40"}, 195, (105, 240), "75 s more"),
    Case(
        "MmdaemonJournalFailed",
        {
            "mmdaemon_journal_failed": "0x60",
            'mmdaemon_guard_reason_raised_total{reason="journal_failed"}': bumped(8),
        },
        135,
        (105, 240),
        "it was restarted before the next scrape",
    ),
    Case(
        "MmdaemonDiskFull",
        {"mmdaemon_state_dir_free_bytes": "40x7 4x22 40x40", "mmdaemon_state_dir_size_bytes": "100x100"},
        435,
        (105, 500),
        "six minutes",
    ),
    Case(
        "MmdaemonDiskLow",
        {"mmdaemon_state_dir_free_bytes": "40x7 14x44 40x40", "mmdaemon_state_dir_size_bytes": "100x100"},
        765,
        (105, 840),
        "11 minutes",
    ),
    Case(
        "MmdaemonBackupDiskLow",
        {"mmdaemon_backup_dir_free_bytes": "40x7 9x44 40x40", "mmdaemon_backup_dir_size_bytes": "100x100"},
        765,
        (105, 840),
        "11 minutes",
    ),
    Case(
        "MmdaemonJournalSlow",
        {
            'mmdaemon_guard_reason_raised_total{reason="journal_slow"}': "0x3 1x50 2x60",
            "mmdaemon_start_timestamp_seconds": "0x120",
        },
        825,
        (105, 330, 660, 1200),
        "one second; at the start it does not count",
    ),
    Case(
        "MmdaemonBackupOld",
        {"mmdaemon_backup_timestamp_seconds": "-93500x8 120x40", "mmdaemon_start_timestamp_seconds": "-99999x60"},
        120,
        (90, 150),
        "half a minute",
    ),
    Case("MmdaemonBackupFailing", {"mmdaemon_backup_failures": "0x7 2x44 0x40"}, 765, (105, 840), "11 minutes"),
    Case("MmdaemonDeadMan", {}, 15, (), ends=False),
)


def document(cases: tuple[Case, ...] = CASES) -> str:
    """mmdaemon.rules.test.yml."""
    head = """\
# Generated by `python -m tests.monitoring.rule_cases`; a test compares. promtool test rules mmdaemon.rules.test.yml
rule_files: [mmdaemon.rules.yml]
evaluation_interval: 15s
tests:
"""
    return head + "\n".join(_test(case) for case in cases)


def _test(case: Case) -> str:
    why = f", {case.why}" if case.why else ""
    lines = [f"  - name: '{case.alert}{why}'", "    interval: 15s", "    input_series:"]
    if not case.series:
        lines[-1] += " []"
    for name, values in case.series.items():
        lines += [f"      - series: '{_labelled(name)}'", f"        values: '{values}'"]
    lines.append("    promql_expr_test:")
    for at_s in sorted({*case.quiet_s, case.fires_s}):
        fires = at_s == case.fires_s
        lines += [
            f'      - expr: \'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}})\'',
            f"        eval_time: {at_s}s",
            "        exp_samples:" + ("\n          - labels: '{}'\n            value: 1" if fires else " []"),
        ]
    return "\n".join(lines) + "\n"


def _labelled(name: str) -> str:
    """With the labels of its target."""
    metric, _, own = name.partition("{")
    own = own.removesuffix("}")
    job = "" if "job=" in own else 'job="mmdaemon",'
    return f'{metric}{{{job}instance="127.0.0.1:9877",bot="a"{"," if own else ""}{own}}}'


def main() -> None:
    """Write it."""
    UNIT_TESTS.write_text(document(), encoding="utf-8")
    sys.stdout.write(f"{UNIT_TESTS}\n")


if __name__ == "__main__":
    main()
