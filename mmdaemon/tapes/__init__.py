"""Recorded markets: what was said at a venue, read back as market events."""
