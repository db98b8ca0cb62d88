-- A journal of version 2 becomes one of version 3: what a preflight measured is kept.

CREATE TABLE preflights (
    ts_ns       INTEGER NOT NULL,
    mode        TEXT    NOT NULL,
    item        TEXT    NOT NULL,
    outcome     TEXT    NOT NULL,
    version     TEXT    NOT NULL,
    config_hash TEXT    NOT NULL,
    account     TEXT    NOT NULL,
    figures     TEXT    NOT NULL,
    evidence    TEXT    NOT NULL,
    seal        TEXT    NOT NULL
) STRICT;
CREATE INDEX preflights_ts ON preflights (ts_ns);

PRAGMA user_version = 3;
