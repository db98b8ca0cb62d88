-- A journal of version 3 becomes one of version 4: what left it when it was old is put down.

CREATE TABLE prunings (
    pruned_table   TEXT    NOT NULL,
    epoch          INTEGER NOT NULL,
    rows           INTEGER NOT NULL,
    through_seq    INTEGER NOT NULL,
    through_ts_ns  INTEGER NOT NULL,
    chain          BLOB,
    ts_ns          INTEGER NOT NULL,
    copy           TEXT    NOT NULL,
    PRIMARY KEY (pruned_table, epoch)
) STRICT;

PRAGMA user_version = 4;
