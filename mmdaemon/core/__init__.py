"""The pure core: no clock, no I/O, no await, no randomness. Start reading at `engine.py`."""
