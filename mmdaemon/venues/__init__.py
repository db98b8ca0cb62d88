"""Venues: the protocol in `base.py`, and everything that speaks it."""
