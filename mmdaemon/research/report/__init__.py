"""The report of one run: one HTML file that needs nothing else, and the same figures as JSON beside it.

    records.py    `Report`: what the JSON says and the page shows
    reading.py    `read_report`: a journal -> a Report; what run it was, and what is assumed
    figures.py    headline figures, attribution, checks
    money.py      the account's books up to the run's end, held against each minute
    quoting.py    decisions over time; when nothing stood, and why
    answers.py    latency, fill ratio, markouts
    drawn.py      what is plotted, thinned by thinning.py
    tables.py     what is listed
    page.py       a Report -> HTML

Everything comes from the journal, read in one transaction, also beside a running daemon.
"""

from mmdaemon.research.report.page import page_of, write_report
from mmdaemon.research.report.reading import read_report
from mmdaemon.research.report.records import Report

__all__ = ["Report", "page_of", "read_report", "write_report"]
