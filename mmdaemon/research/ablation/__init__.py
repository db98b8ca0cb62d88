"""`mmdaemon compare`: what each part of the strategy is worth, beside the rules that others ship, on the same engine.

    rules.py      the six rules of others, as strategies for `core/engine.py`
    fitting.py    what they need to know of a market: A and k, the average adverse move; from the first third of a tape
    rows.py       what is compared: each row's settings, and its strategy
    columns.py    a tape's books as they are received, and its volume
    score.py      what a run earned, from its journal and those columns
    bootstrap.py  intervals of paired differences, by blocks of time
    results.py    one row's result as a file
    run.py        rows over processes, each a whole daemon in virtual time
    table.py      results -> tables
    page.py       results -> one HTML file with plots

A run is scored without the core: fills, orders and minutes come from its journal, later prices from the recording.
"""
