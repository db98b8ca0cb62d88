-- The journal, version 4. One file, one writer, WAL. What makes an older one of it stands in `from_*.sql`.
--
-- Units    *_ns nanoseconds (mono_ns local monotonic, ts_ns UTC, venue_ts_ns the venue's UTC); *_ticks and *_lots counts
--          of the instrument version named beside them; *_e10 quote currency in 1e-10.
-- Absent is NULL, never zero. A flag is 0 or 1. `side` is 1 for buy and -1 for sell.
-- `epoch` numbers the run, `seq` the event within it that the row follows from.
-- Rows of one table are written in the order they were handed over; rows of different tables must not depend on their
-- order within one commit (which is why `orders.filled_lots` is summed at insertion *and* kept up by a trigger).

CREATE TABLE meta (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    bot_tag       TEXT    NOT NULL,          -- four base32 characters: the prefix of our client ids
    venue         TEXT    NOT NULL,          -- one journal holds one instrument of one account
    symbol        TEXT    NOT NULL,
    created_ts_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE runs (
    epoch           INTEGER PRIMARY KEY,
    account_epoch   INTEGER NOT NULL,        -- the run in which this account was first met (a fresh simulated one, each run)
    after_clean     INTEGER NOT NULL,        -- 0: the run before this one did not stop cleanly
    version         TEXT    NOT NULL,
    config_hash     TEXT    NOT NULL,
    mode            TEXT    NOT NULL,
    durability      TEXT    NOT NULL,
    provenance      TEXT    NOT NULL,        -- JSON: where the market comes from and what is assumed of it
    started_mono_ns INTEGER NOT NULL,
    started_ts_ns   INTEGER NOT NULL,
    start_e10       INTEGER,                 -- equity when the account was first met, on that run's row
    ended_mono_ns   INTEGER,
    ended_ts_ns     INTEGER,
    clean_stop      INTEGER,
    end_reason      TEXT
) STRICT;
CREATE INDEX runs_started ON runs (started_ts_ns);

CREATE TABLE parameters (
    epoch  INTEGER PRIMARY KEY,
    params BLOB NOT NULL                     -- core.params.Params, msgpack, in full
) STRICT;

CREATE TABLE instruments (
    venue            TEXT    NOT NULL,
    symbol           TEXT    NOT NULL,
    version          INTEGER NOT NULL,
    quote            TEXT    NOT NULL,
    tick_e10         INTEGER NOT NULL,
    lot_e10          INTEGER NOT NULL,
    unit_e10         INTEGER NOT NULL,
    min_qty_lots     INTEGER NOT NULL,
    max_qty_lots     INTEGER NOT NULL,
    min_notional_e10 INTEGER NOT NULL,
    first_ts_ns      INTEGER NOT NULL,
    PRIMARY KEY (venue, symbol, version)
) STRICT;

-- What was about to be sent, durable before it is. Revision 0 is the order itself, higher ones its amends.
-- A client id is never reused, so a second row of the same key fails the commit, and the order is not sent.
CREATE TABLE intents (
    client_id   TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    ts_ns       INTEGER NOT NULL,
    side        INTEGER,                     -- NULL from here to `ioc` in an amend: they do not change
    px_ticks    INTEGER NOT NULL,
    qty_lots    INTEGER NOT NULL,
    purpose     TEXT,
    level       INTEGER,
    post_only   INTEGER,
    reduce_only INTEGER,
    ioc         INTEGER,
    PRIMARY KEY (client_id, revision)
) STRICT, WITHOUT ROWID;
CREATE INDEX intents_seq ON intents (epoch, seq);

CREATE TABLE cancels (
    epoch     INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    ts_ns     INTEGER NOT NULL,
    client_id TEXT    NOT NULL,
    risk      INTEGER NOT NULL               -- 1: never counts towards the cancel budget
) STRICT;
CREATE INDEX cancels_client_id ON cancels (client_id);
CREATE INDEX cancels_ts ON cancels (ts_ns);

-- The last known status of each order. `settled` says that its quantity may be freed: terminal at the venue, and every
-- lot that the venue counts as filled is a row in `fills`. Where the venue gave no cumulative, a rejection means none
-- and FILLED means all; a cancellation means nothing and stays open.
CREATE TABLE orders (
    client_id       TEXT    PRIMARY KEY,
    epoch           INTEGER NOT NULL,
    side            INTEGER NOT NULL,
    px_ticks        INTEGER NOT NULL,        -- in force at the venue, as far as it said
    qty_lots        INTEGER NOT NULL,
    purpose         TEXT    NOT NULL,
    level           INTEGER NOT NULL,
    reduce_only     INTEGER NOT NULL,
    revision        INTEGER NOT NULL,
    status          TEXT    NOT NULL,
    cum_filled_lots INTEGER,                 -- the largest the venue has said
    filled_lots     INTEGER NOT NULL,        -- sum of its rows in `fills`
    reason          TEXT    NOT NULL,
    updated_seq     INTEGER NOT NULL,
    updated_ts_ns   INTEGER NOT NULL,
    settled         INTEGER NOT NULL GENERATED ALWAYS AS (
        CASE status
            WHEN 'rejected'  THEN filled_lots = coalesce(cum_filled_lots, 0)
            WHEN 'filled'    THEN filled_lots = coalesce(cum_filled_lots, qty_lots)
            WHEN 'cancelled' THEN coalesce(filled_lots = cum_filled_lots, 0)
            ELSE 0
        END
    ) VIRTUAL
) STRICT, WITHOUT ROWID;
CREATE INDEX orders_unsettled ON orders (epoch, client_id) WHERE settled = 0;

CREATE TABLE order_events (
    epoch           INTEGER NOT NULL,
    seq             INTEGER NOT NULL,
    mono_ns         INTEGER NOT NULL,
    ts_ns           INTEGER NOT NULL,
    venue_ts_ns     INTEGER,
    client_id       TEXT    NOT NULL,
    kind            TEXT    NOT NULL,        -- update, adopted, cancel_failed, amend_failed
    status          TEXT,
    cum_filled_lots INTEGER,
    px_ticks        INTEGER,
    qty_lots        INTEGER,
    revision        INTEGER,
    reason          TEXT    NOT NULL
) STRICT;
CREATE INDEX order_events_client_id ON order_events (client_id);

CREATE TABLE fills (
    venue              TEXT    NOT NULL,
    symbol             TEXT    NOT NULL,
    account_epoch      INTEGER NOT NULL,
    trade_id           TEXT    NOT NULL,
    instrument_version INTEGER NOT NULL,
    epoch              INTEGER NOT NULL,
    seq                INTEGER NOT NULL,
    mono_ns            INTEGER NOT NULL,
    ts_ns              INTEGER NOT NULL,
    venue_ts_ns        INTEGER,
    client_id          TEXT    NOT NULL,
    side               INTEGER NOT NULL,
    px_ticks           INTEGER NOT NULL,
    qty_lots           INTEGER NOT NULL,
    notional_e10       INTEGER NOT NULL,     -- px × qty × unit, exact: a product in SQL would turn into a float unseen
    fee_e10            INTEGER NOT NULL,     -- charged; negative is a rebate
    fee_text           TEXT    NOT NULL,     -- as the venue wrote it
    liquidity          TEXT    NOT NULL,
    exec_kind          TEXT    NOT NULL,
    mark_px_ticks      INTEGER,
    redeliveries       INTEGER NOT NULL DEFAULT 0,
    fair0_ticks        REAL,                 -- fair value before it; NULL where there was none, and in rows of version 1
    regime             TEXT,                 -- when it came; NULL in rows of version 1
    UNIQUE (trade_id, account_epoch, symbol, venue)
) STRICT;
CREATE INDEX fills_seq ON fills (epoch, seq);
CREATE INDEX fills_client_id ON fills (client_id);
CREATE INDEX fills_ts ON fills (ts_ns);
CREATE INDEX fills_venue_ts ON fills (account_epoch, venue_ts_ns);

-- Fires for a new fill only: a re-delivery takes the update branch of its statement.
CREATE TRIGGER fills_settle AFTER INSERT ON fills BEGIN
    UPDATE orders SET filled_lots = filled_lots + NEW.qty_lots WHERE client_id = NEW.client_id;
END;

-- What a fill was worth later, a row for each horizon that was closed. NULL is unavailable.
CREATE TABLE markouts (
    epoch         INTEGER NOT NULL,          -- of the run and the event that closed it
    seq           INTEGER NOT NULL,
    ts_ns         INTEGER NOT NULL,
    account_epoch INTEGER NOT NULL,
    trade_id      TEXT    NOT NULL,
    horizon_s     INTEGER NOT NULL,
    regime        TEXT    NOT NULL,          -- when the fill came
    side          INTEGER NOT NULL,
    fair0_ticks   REAL    NOT NULL,
    fair_ticks    REAL,
    effective_bps REAL    NOT NULL,          -- of fair0, with six decimals; with the impact it is the markout
    impact_bps    REAL
) STRICT;
CREATE INDEX markouts_seq ON markouts (epoch, seq);
CREATE INDEX markouts_trade_id ON markouts (trade_id);

CREATE TABLE bills (
    venue         TEXT    NOT NULL,
    account_epoch INTEGER NOT NULL,
    bill_id       TEXT    NOT NULL,
    kind          TEXT    NOT NULL,          -- funding, transfer, fee
    epoch         INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    mono_ns       INTEGER NOT NULL,
    ts_ns         INTEGER NOT NULL,
    venue_ts_ns   INTEGER,
    amount_e10    INTEGER NOT NULL,          -- positive is received
    amount_text   TEXT    NOT NULL,
    redeliveries  INTEGER NOT NULL DEFAULT 0,
    UNIQUE (bill_id, account_epoch, venue)
) STRICT;
CREATE INDEX bills_seq ON bills (epoch, seq);
CREATE INDEX bills_ts ON bills (ts_ns);

-- Each changed decision with all its inputs. `chain` hashes the row together with the chain of the row before it, from
-- the parameters onwards, so that an edited or missing row shows.
CREATE TABLE decisions (
    epoch    INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    mono_ns  INTEGER NOT NULL,
    ts_ns    INTEGER NOT NULL,
    guard    TEXT    NOT NULL,
    regime   TEXT    NOT NULL,
    inputs   BLOB    NOT NULL,
    decision BLOB    NOT NULL,
    chain    BLOB    NOT NULL,
    PRIMARY KEY (epoch, seq)
) STRICT;
CREATE INDEX decisions_ts ON decisions (ts_ns);

CREATE TABLE transitions (
    epoch      INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    mono_ns    INTEGER NOT NULL,
    ts_ns      INTEGER NOT NULL,
    from_state TEXT    NOT NULL,
    to_state   TEXT    NOT NULL,
    reasons    TEXT    NOT NULL              -- space between them
) STRICT;
CREATE INDEX transitions_seq ON transitions (epoch, seq);

-- The last row is the kill switch. Any state but `armed` is the latch.
CREATE TABLE kill (
    epoch    INTEGER NOT NULL,
    mono_ns  INTEGER NOT NULL,
    ts_ns    INTEGER NOT NULL,
    state    TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    evidence TEXT    NOT NULL                -- JSON
) STRICT;

CREATE TABLE operator_actions (
    epoch   INTEGER NOT NULL,
    seq     INTEGER,                         -- NULL: refused before it became an event
    mono_ns INTEGER NOT NULL,
    ts_ns   INTEGER NOT NULL,
    action  TEXT    NOT NULL,
    reason  TEXT    NOT NULL,
    who     TEXT    NOT NULL,
    outcome TEXT    NOT NULL
) STRICT;
CREATE INDEX operator_actions_ts ON operator_actions (ts_ns);

CREATE TABLE reconciliations (
    epoch         INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    mono_ns       INTEGER NOT NULL,
    ts_ns         INTEGER NOT NULL,
    scope         TEXT    NOT NULL,
    position_lots INTEGER NOT NULL,          -- the venue's
    breaks        TEXT    NOT NULL           -- JSON list of names; [] is clean
) STRICT;
CREATE INDEX reconciliations_seq ON reconciliations (epoch, seq);

CREATE TABLE breaks (
    name             TEXT    NOT NULL,
    owner            TEXT    NOT NULL,
    hard             INTEGER NOT NULL,
    detail           TEXT    NOT NULL,
    epoch            INTEGER NOT NULL,
    seq              INTEGER NOT NULL,
    opened_ts_ns     INTEGER NOT NULL,
    last_seen_ts_ns  INTEGER NOT NULL,
    closed_ts_ns     INTEGER,
    resolution       TEXT
) STRICT;
CREATE UNIQUE INDEX breaks_open ON breaks (name) WHERE closed_ts_ns IS NULL;
CREATE INDEX breaks_opened ON breaks (opened_ts_ns);

-- One sample a minute: what the report and the page draw.
CREATE TABLE minutes (
    epoch         INTEGER NOT NULL,
    ts_ns         INTEGER NOT NULL,
    mono_ns       INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    guard         TEXT    NOT NULL,
    regime        TEXT    NOT NULL,
    position_lots INTEGER NOT NULL,
    mark_px_ticks INTEGER,
    bid_px_ticks  INTEGER,                   -- our own best, NULL where none rests
    ask_px_ticks  INTEGER,
    equity_e10    INTEGER,
    spread_e10    INTEGER NOT NULL,          -- from here cumulative since the account was first met
    inventory_e10 INTEGER NOT NULL,
    impact_e10    INTEGER NOT NULL,
    fees_e10      INTEGER NOT NULL,
    funding_e10   INTEGER NOT NULL,
    transfers_e10 INTEGER NOT NULL,
    turnover_e10  INTEGER NOT NULL,
    fills         INTEGER NOT NULL,
    book_healthy    INTEGER,                 -- the guard's own judgement; from here NULL in rows of version 1
    book_healthy_ns INTEGER,                 -- time with a healthy book since the run began
    fee_source      TEXT,                    -- where the account's rates were read; NULL while they are not known
    funding_rate    REAL,                    -- predicted for the next settlement; NULL while it is not known
    funding_due_ts_ns INTEGER,               -- when that is (UTC)
    PRIMARY KEY (epoch, ts_ns)
) STRICT;
CREATE INDEX minutes_ts ON minutes (ts_ns);

-- Slices of State, so that recovery need not fold all history. The two newest of each slice are kept. `digest` shows
-- what damages a page in the middle of a blob, which SQLite does not.
CREATE TABLE checkpoints (
    slice  TEXT    NOT NULL,
    epoch  INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    ts_ns  INTEGER NOT NULL,
    blob   BLOB    NOT NULL,
    digest BLOB,                             -- of `blob`; NULL in rows of version 1
    PRIMARY KEY (slice, epoch, seq)
) STRICT;

-- What a finished run came to. `chain` and `decisions` are those of the last decision, so that a cut tail shows too.
CREATE TABLE digests (
    epoch     INTEGER PRIMARY KEY,
    digest    BLOB    NOT NULL,
    events    INTEGER NOT NULL,
    decisions INTEGER NOT NULL,
    chain     BLOB    NOT NULL
) STRICT;

-- What `mmdaemon preflight` measured, a row an item and run of it; written while no daemon runs here.
CREATE TABLE preflights (
    ts_ns       INTEGER NOT NULL,            -- when it was measured
    mode        TEXT    NOT NULL,            -- testnet, live
    item        TEXT    NOT NULL,
    outcome     TEXT    NOT NULL,            -- passed, failed, not_checked; progress of one that takes days
    version     TEXT    NOT NULL,
    config_hash TEXT    NOT NULL,            -- of the configuration as it would trade live
    account     TEXT    NOT NULL,            -- fingerprint of account and key
    figures     TEXT    NOT NULL,            -- JSON object
    evidence    TEXT    NOT NULL,            -- what was looked at
    seal        TEXT    NOT NULL             -- of all of the above, keyed by the account's secret
) STRICT;
CREATE INDEX preflights_ts ON preflights (ts_ns);

-- What left this journal when it was old (journal/pruning.py), a row a table and run. `chain` is that of the last decision
-- that left: the one after it is hashed onto it.
CREATE TABLE prunings (
    pruned_table   TEXT    NOT NULL,
    epoch          INTEGER NOT NULL,
    rows           INTEGER NOT NULL,
    through_seq    INTEGER NOT NULL,         -- the last event of which it was, with its time
    through_ts_ns  INTEGER NOT NULL,
    chain          BLOB,
    ts_ns          INTEGER NOT NULL,         -- when the last of it left
    copy           TEXT    NOT NULL,         -- name of the verified copy that has that
    PRIMARY KEY (pruned_table, epoch)
) STRICT;

-- What sources outside said (core/signals.py), and what became of it.
CREATE TABLE signals (
    epoch       INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    mono_ns     INTEGER NOT NULL,
    ts_ns       INTEGER NOT NULL,
    source      TEXT    NOT NULL,
    kind        TEXT    NOT NULL,                   -- empty of what the door refused, and of a source switched off or on
    sequence    INTEGER,                        -- here and below NULL is no number
    what        TEXT    NOT NULL,               -- applied, shadow, refused, replaced, expired, off, on
    reason      TEXT    NOT NULL,
    count       INTEGER NOT NULL,               -- how many refusals were alike
    value       TEXT    NOT NULL,
    confidence  REAL,
    said_ts_ns  INTEGER,
    ttl_s       REAL
) STRICT;
CREATE INDEX signals_ts ON signals (ts_ns);
CREATE INDEX signals_seq ON signals (epoch, seq);

PRAGMA user_version = 5;
