"""hftbacktest's side, for an interpreter of its own: a setup a line in, what it told a line out, until the input ends.

Imports no mmdaemon.
"""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false

import json
import sys
import time
from functools import cache

import numpy as np
import rule
from hftbacktest import BacktestAsset, HashMapMarketDepthBacktest
from hftbacktest.data.validation import validate_event_order
from hftbacktest.order import CANCELED, EXPIRED, FILLED, GTX, LIMIT, NONE
from numba import njit

NOTHING, PLACE, CANCEL = rule.NOTHING, rule.PLACE, rule.CANCEL
SEEN = ("position_lots", "bid_ticks", "ask_ticks", "buy", "sell")
SENT = ("order", "px_ticks", "filled_ns")


def trade(hbt, wanted, action, first_ns, every_ns, decisions, tick, lot, size, most, away_ticks, seen, sent):
    """Fill `seen` (a row a decision) and `sent` (a row an order). Returns the number of orders."""
    count = 0
    names = np.full(2, -1, np.int64)
    rows = np.zeros(2, np.int64)
    prices = np.zeros(2, np.int64)
    todo = np.zeros(2, np.int64)
    hbt.elapse(0)
    for k in range(decisions):
        if hbt.elapse(first_ns + k * every_ns - hbt.current_timestamp) != 0:
            return -count
        orders = hbt.orders(0)
        for i in range(2):
            if names[i] >= 0:
                order = orders.get(names[i])
                if order.status == FILLED:
                    sent[rows[i], 2] = order.exch_timestamp
                if order.status in (FILLED, EXPIRED, CANCELED):
                    names[i] = -1
                    prices[i] = 0
        depth = hbt.depth(0)
        bid, ask = depth.best_bid_tick, depth.best_ask_tick
        if bid < 0 or ask > 1 << 40:
            bid, ask = 0, 0
        position = int(np.round(hbt.position(0) / lot))
        seen[k, 0], seen[k, 1], seen[k, 2] = position, bid, ask
        seen[k, 3], seen[k, 4] = names[0], names[1]
        for i in range(2):
            is_asked = False
            if names[i] >= 0:
                order = orders.get(names[i])
                is_asked = order.req != NONE
            todo[i] = action(wanted(1 - 2 * i, bid, ask, position, most, away_ticks), prices[i], is_asked)
            if todo[i] == CANCEL:
                hbt.cancel(0, names[i], False)
        for i in range(2):
            if todo[i] == PLACE:
                px = wanted(1 - 2 * i, bid, ask, position, most, away_ticks)
                names[i], prices[i], rows[i] = 2 * k + i, px, count
                sent[count, 0], sent[count, 1] = names[i], px
                count += 1
                if i == 0:
                    hbt.submit_buy_order(0, names[i], px * tick, size, GTX, LIMIT, False)
                else:
                    hbt.submit_sell_order(0, names[i], px * tick, size, GTX, LIMIT, False)
    return count


def market(setup, data):
    asset = (
        BacktestAsset()
        .data(data)
        .linear_asset(1.0)
        .constant_order_latency(setup["request_ns"], setup["response_ns"])
        .no_partial_fill_exchange()
        .trading_value_fee_model(0.0, 0.0)
        .tick_size(setup["tick"])
        .lot_size(setup["lot"])
        .last_trades_capacity(0)
    )
    if setup["exponent"]:
        asset = asset.power_prob_queue_model(float(setup["exponent"]))
    else:
        asset = asset.risk_adverse_queue_model()
    return HashMapMarketDepthBacktest([asset])


def run(setup, data, way, decisions):
    play, wanted, action = way
    seen = np.zeros((decisions, 5), np.int64)
    sent = np.zeros((2 * decisions, 3), np.int64)
    hbt = market(setup, data)
    grid = setup["first_ns"], setup["every_ns"], decisions
    size = setup["tick"], setup["lot"], setup["lot"] * setup["order_lots"]
    begun = time.process_time()
    count = play(hbt, wanted, action, *grid, *size, setup["most_lots"], setup["away_ticks"], seen, sent)
    took = time.process_time() - begun
    hbt.close()
    if count < 0:
        raise SystemExit("hftbacktest came to the end of its data before the last decision")
    return seen, sent[:count], took


@cache
def rows(path):
    data = np.load(path)["data"]
    validate_event_order(data)
    return data


def tell(setup, ways) -> dict[str, object]:
    runs = {name: run(setup, rows(setup["stream"]), way, setup["decisions"]) for name, way in ways.items()}
    (seen, sent, _), (others_seen, others_sent, _) = runs.values()
    if not np.array_equal(seen, others_seen) or not np.array_equal(sent, others_sent):
        raise SystemExit("hftbacktest gave two results for one run")
    return {
        "seen": [dict(zip(SEEN, row, strict=True)) for row in seen.tolist()],
        "sent": [dict(zip(SENT, row, strict=True)) for row in sent.tolist()],
        "seconds": {name: took for name, (_, _, took) in runs.items()},
    }


def main() -> None:
    jitted = njit(trade), njit(rule.wanted), njit(rule.action)
    ways = {"hftbacktest, jitted": jitted, "hftbacktest, plain Python": (trade, rule.wanted, rule.action)}
    is_compiled = False
    for line in sys.stdin:
        setup = json.loads(line)
        if not is_compiled:
            run(setup, rows(setup["stream"]), jitted, 10)
            is_compiled = True
        print(json.dumps(tell(setup, ways)), flush=True)


if __name__ == "__main__":
    main()
