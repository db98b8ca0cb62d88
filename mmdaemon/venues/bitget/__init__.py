"""Bitget's USDT perpetuals: its two APIs, `classic` (v2) and `unified` (v3). An account has one of them, for good."""
