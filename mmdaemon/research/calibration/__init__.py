"""`mmdaemon calibrate`: what a recording says of the numbers that the strategy needs, each with how well it is known.

    observing.py    a tape, as its books and prints ARRIVE, through the core's own rules -> `Observed`: columns
    blocks.py       intervals by block bootstrap, the same for the same tape
    volatility.py   sigma by the length of the step (signature plot)
    intensity.py    A and k of `A * exp(-k * distance)`, with R2
    closed_form.py  what `core/glft.py` makes of them: half-spread and skew
    distances.py    how far prints reach, and how often
    markouts.py     what the average print was worth to its maker later; what one beyond a distance is worth
    ridge.py        weights of the short-horizon signal, by blocked cross-validation
    records.py      `Calibration`: what the JSON says
    fitting.py      `calibrate`: all of it, once over a tape
    preset.py       a Calibration -> a TOML fragment, each line with the figure it came from
    tables.py       a Calibration -> tables, for terminal and page alike
    page.py         a Calibration -> one HTML file

A fit that could not be made is a `NotMade` that says why, and never a number. All of it is of the average print and not
of the ones that would have hit us, which are worse: these are where to begin, not what will be earned.
"""
