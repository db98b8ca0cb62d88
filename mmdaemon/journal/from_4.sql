-- A journal of version 4 becomes one of version 5: what sources outside said, and what became of it.

CREATE TABLE signals (
    epoch       INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    mono_ns     INTEGER NOT NULL,
    ts_ns       INTEGER NOT NULL,
    source      TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    sequence    INTEGER,
    what        TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    count       INTEGER NOT NULL,
    value       TEXT    NOT NULL,
    confidence  REAL,
    said_ts_ns  INTEGER,
    ttl_s       REAL
) STRICT;
CREATE INDEX signals_ts ON signals (ts_ns);
CREATE INDEX signals_seq ON signals (epoch, seq);

PRAGMA user_version = 5;
