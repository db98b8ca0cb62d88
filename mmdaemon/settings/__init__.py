"""What an operator may choose: TOML, environment and command line in, one frozen `Settings` out, and from it `Params`.

    problems.py   what is wrong with a configuration, said so that it can be mended
    presets.py    named sets of values: the ladder table of each
    running.py    settings of the run, the venue and the daemon's own doors, with unit, default and compiled bounds
    trading.py    settings of the trading rules, likewise, beside their conversion for the core
    model.py      `Settings`: the sections together, `config_hash`, `to_params`
    rules.py      what must hold between settings
    credentials.py keys: files of systemd, or the environment for development; never a setting
    loading.py    `load`: layers, precedence, origin of each value, every error at once
    equity.py     the least equity at which each regime's order is valid
    documents.py  config/*.toml and docs/SETTINGS.md, generated from the model

Keys and credentials are not settings: they come from systemd credentials, and one found here is an error.
"""

from mmdaemon.settings.equity import LeastEquity, least_equity
from mmdaemon.settings.loading import Loaded, assignments, config_folder, load, shipped_config
from mmdaemon.settings.model import Settings
from mmdaemon.settings.problems import ConfigError, Problem

__all__ = [
    "load",
    "Loaded",
    "assignments",
    "Settings",
    "ConfigError",
    "Problem",
    "LeastEquity",
    "least_equity",
    "config_folder",
    "shipped_config",
]
