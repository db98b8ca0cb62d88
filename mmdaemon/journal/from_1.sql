-- A journal of version 1 becomes one of version 2: markouts are kept, what a fill saw,
-- digests of checkpoints, and each minute the book's health, the fees' source and the funding rate.

ALTER TABLE fills ADD COLUMN fair0_ticks REAL;
ALTER TABLE fills ADD COLUMN regime TEXT;
ALTER TABLE checkpoints ADD COLUMN digest BLOB;
ALTER TABLE minutes ADD COLUMN book_healthy INTEGER;
ALTER TABLE minutes ADD COLUMN book_healthy_ns INTEGER;
ALTER TABLE minutes ADD COLUMN fee_source TEXT;
ALTER TABLE minutes ADD COLUMN funding_rate REAL;
ALTER TABLE minutes ADD COLUMN funding_due_ts_ns INTEGER;

CREATE TABLE markouts (
    epoch         INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    ts_ns         INTEGER NOT NULL,
    account_epoch INTEGER NOT NULL,
    trade_id      TEXT    NOT NULL,
    horizon_s     INTEGER NOT NULL,
    regime        TEXT    NOT NULL,
    side          INTEGER NOT NULL,
    fair0_ticks   REAL    NOT NULL,
    fair_ticks    REAL,
    effective_bps REAL    NOT NULL,
    impact_bps    REAL
) STRICT;
CREATE INDEX markouts_seq ON markouts (epoch, seq);
CREATE INDEX markouts_trade_id ON markouts (trade_id);

PRAGMA user_version = 2;
