"""The daemon: coroutines that wait, fetch, time and act. What they compute is in `mmdaemon.core`; `wire.py` puts
them together."""
