"""mmdaemon: a single-process asyncio market-making daemon.

The core (`mmdaemon.core`) has no clock, no I/O and no `await`: time arrives as data, and one synchronous
`step(state, event, params)` is the only writer of state. Everything else feeds it events or carries out its commands.
"""

__version__ = "0.1.0"
