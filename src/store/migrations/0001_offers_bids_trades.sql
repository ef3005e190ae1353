-- Every table but `meta` holds facts of the exchange, one row each. What was signed is kept byte for byte; the views at the end
-- show what is in it, for people: the program never reads them. `crc` is the CRC-32 of the row's other columns: a row that was
-- changed by anything but the program is refused at start.
--
-- Ids and hashes are lower-case text, times are milliseconds since 1970 (`datetime(at / 1000, 'unixepoch')`), amounts are decimal
-- text. `v` is a DHT item's value (BEP44): JSON text with its length before it.
--
-- Each write is part of somebody's wait. So there are no generated columns (SQLite computes them for every row that is written)
-- and no `IN (...)` in a CHECK (for which it makes a table in memory each time).

-- Whose store this is.
CREATE TABLE owner (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    network    TEXT NOT NULL,
    client_id  TEXT NOT NULL
) STRICT;

-- What the drivers remember: this node's id in the DHT, nodes it knew.
CREATE TABLE meta (
    name   TEXT PRIMARY KEY,
    value  TEXT NOT NULL,
    crc    INTEGER NOT NULL
) STRICT;

-- Own offers that are not dead, in their newest version.
CREATE TABLE own_offers (
    id        TEXT PRIMARY KEY,
    target    TEXT NOT NULL,
    k         TEXT NOT NULL,
    seq       INTEGER NOT NULL,
    v         BLOB NOT NULL,
    sig       TEXT NOT NULL,
    closed    TEXT CHECK (closed = 'sold' OR closed = 'withdrawn' OR closed = 'recovered'),
    trade_id  TEXT CHECK ((trade_id IS NOT NULL) = (closed IS 'sold')),
    crc       INTEGER NOT NULL
) STRICT;

-- How far an own offer's newest published version reached. An offer whose `seq` is not here is still to be published.
CREATE TABLE published (
    id            TEXT PRIMARY KEY REFERENCES own_offers (id) ON DELETE CASCADE,
    seq           INTEGER NOT NULL,
    stored_on     INTEGER NOT NULL,
    announced_to  INTEGER NOT NULL,
    at            INTEGER NOT NULL,
    crc           INTEGER NOT NULL
) STRICT;

-- Other makers' records that are not dead, in the newest version known here.
CREATE TABLE records (
    target  TEXT PRIMARY KEY,
    k       TEXT NOT NULL,
    seq     INTEGER NOT NULL,
    v       BLOB NOT NULL,
    sig     TEXT NOT NULL,
    crc     INTEGER NOT NULL
) STRICT;

-- Records whose maker signed two values of one sequence: the proof.
CREATE TABLE equivocations (
    target     TEXT PRIMARY KEY,
    k          TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    v          BLOB NOT NULL,
    sig        TEXT NOT NULL,
    other_v    BLOB NOT NULL,
    other_sig  TEXT NOT NULL,
    crc        INTEGER NOT NULL
) STRICT;

-- Own records of which the network has a newer version than this store: it was lost, restored or copied.
CREATE TABLE ahead (
    target  TEXT PRIMARY KEY,
    k       TEXT NOT NULL,
    seq     INTEGER NOT NULL,
    v       BLOB NOT NULL,
    sig     TEXT NOT NULL,
    crc     INTEGER NOT NULL
) STRICT;

-- All trades, as maker or as taker, with both signatures, in the order in which they became known. Makers choose the ids of
-- trades, so an id alone does not name one.
CREATE TABLE trades (
    n        INTEGER PRIMARY KEY,
    id       TEXT NOT NULL,
    taker    TEXT NOT NULL,
    bid_id   TEXT NOT NULL,
    text     TEXT NOT NULL,
    sig      TEXT NOT NULL,
    bid_text TEXT NOT NULL,
    bid_sig  TEXT NOT NULL,
    crc      INTEGER NOT NULL,
    UNIQUE (id, taker, bid_id)
) STRICT;

-- Own bids. An accepted one and its trade are stored by one commit, or neither is.
CREATE TABLE bids_out (
    id              TEXT PRIMARY KEY,
    bidder          TEXT NOT NULL,
    text            TEXT NOT NULL,
    sig             TEXT NOT NULL,
    outcome         TEXT NOT NULL CHECK (outcome = 'in_doubt' OR outcome = 'accepted' OR outcome = 'refused'),
    trade_id        TEXT CHECK ((trade_id IS NOT NULL) = (outcome = 'accepted')),
    refusal_code    TEXT CHECK ((refusal_code IS NOT NULL) = (outcome = 'refused')),
    refusal_detail  TEXT,
    crc             INTEGER NOT NULL,
    FOREIGN KEY (trade_id, bidder, id) REFERENCES trades (id, taker, bid_id) DEFERRABLE INITIALLY DEFERRED
) STRICT;

-- Bids on own offers, with the answer that each got.
CREATE TABLE bids_in (
    bidder          TEXT NOT NULL,
    id              TEXT NOT NULL,
    text            TEXT NOT NULL,
    sig             TEXT NOT NULL,
    answered_at     INTEGER NOT NULL,
    outcome         TEXT NOT NULL CHECK (outcome = 'accepted' OR outcome = 'refused'),
    trade_id        TEXT CHECK ((trade_id IS NOT NULL) = (outcome = 'accepted')),
    refusal_code    TEXT CHECK ((refusal_code IS NOT NULL) = (outcome = 'refused')),
    refusal_detail  TEXT,
    crc             INTEGER NOT NULL,
    PRIMARY KEY (bidder, id),
    FOREIGN KEY (trade_id, bidder, id) REFERENCES trades (id, taker, bid_id) DEFERRABLE INITIALLY DEFERRED
) STRICT;

-- What requests with an idempotency key made.
CREATE TABLE idempotency_keys (
    key             TEXT PRIMARY KEY,
    request_sha256  TEXT NOT NULL,
    made            TEXT NOT NULL CHECK (made = 'offer' OR made = 'bid'),
    made_id         TEXT NOT NULL,
    at              INTEGER NOT NULL,
    crc             INTEGER NOT NULL
) STRICT;

-- For people: `SELECT * FROM trades_view`.

CREATE VIEW own_offers_view AS
SELECT id, target, seq, closed, trade_id,
       json ->> 'side' AS side,
       json ->> 'btc_quantity' AS btc_quantity,
       json ->> 'offer_price' AS offer_price,
       json ->> 'currency' AS currency,
       json ->> 'availability' AS availability,
       json ->> 'expires_at' AS expires_at,
       json ->> 'dies_at' AS dies_at
FROM (SELECT *, CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) AS json FROM own_offers);

CREATE VIEW records_view AS
SELECT target, seq,
       json ->> 'id' AS id,
       json ->> 'client_id' AS client_id,
       json ->> 'side' AS side,
       json ->> 'btc_quantity' AS btc_quantity,
       json ->> 'offer_price' AS offer_price,
       json ->> 'currency' AS currency,
       json ->> 'availability' AS availability,
       json ->> 'expires_at' AS expires_at,
       json ->> 'dies_at' AS dies_at
FROM (SELECT *, CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) AS json FROM records);

CREATE VIEW trades_view AS
SELECT n, id, taker, bid_id,
       text ->> 'maker' AS maker,
       text ->> 'offer_id' AS offer_id,
       text ->> '$.terms.side' AS side,
       text ->> '$.terms.btc_quantity' AS btc_quantity,
       text ->> 'price' AS price,
       text ->> '$.terms.currency' AS currency,
       text ->> 'executed_at' AS executed_at
FROM trades;

CREATE VIEW bids_out_view AS
SELECT id, bidder, outcome, trade_id, refusal_code, refusal_detail,
       text ->> 'offer_id' AS offer_id,
       text ->> 'maker' AS maker,
       text ->> 'price' AS price,
       text ->> 'valid_until' AS valid_until
FROM bids_out;

CREATE VIEW bids_in_view AS
SELECT bidder, id, answered_at, outcome, trade_id, refusal_code, refusal_detail,
       text ->> 'offer_id' AS offer_id,
       text ->> 'price' AS price,
       text ->> 'valid_until' AS valid_until
FROM bids_in;
