-- Every table but `meta` holds facts of the exchange, one row each. What was signed is kept byte for byte; the columns that are
-- GENERATED are only views of it, for people: they take no space, and the program never reads them. `crc` is the CRC-32 of
-- the row's other columns: a row that was changed by anything but the program is refused at start.
--
-- Ids and hashes are lower-case text, times are milliseconds since 1970 (`datetime(at / 1000, 'unixepoch')`), amounts are decimal
-- text. `v` is a DHT item's value (BEP44): JSON text with its length before it.

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
    closed    TEXT CHECK (closed IN ('sold', 'withdrawn', 'recovered')),
    trade_id  TEXT CHECK ((trade_id IS NOT NULL) = (closed IS 'sold')),
    crc       INTEGER NOT NULL,
    side          TEXT AS (CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) ->> 'side') VIRTUAL,
    btc_quantity  TEXT AS (CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) ->> 'btc_quantity') VIRTUAL,
    offer_price   TEXT AS (CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) ->> 'offer_price') VIRTUAL,
    currency      TEXT AS (CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) ->> 'currency') VIRTUAL,
    availability  INTEGER AS (CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) ->> 'availability') VIRTUAL,
    expires_at    INTEGER AS (CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) ->> 'expires_at') VIRTUAL,
    dies_at       INTEGER AS (CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) ->> 'dies_at') VIRTUAL
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
    crc     INTEGER NOT NULL,
    id            TEXT AS (CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) ->> 'id') VIRTUAL,
    client_id     TEXT AS (CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) ->> 'client_id') VIRTUAL,
    side          TEXT AS (CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) ->> 'side') VIRTUAL,
    btc_quantity  TEXT AS (CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) ->> 'btc_quantity') VIRTUAL,
    offer_price   TEXT AS (CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) ->> 'offer_price') VIRTUAL,
    currency      TEXT AS (CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) ->> 'currency') VIRTUAL,
    availability  INTEGER AS (CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) ->> 'availability') VIRTUAL,
    expires_at    INTEGER AS (CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) ->> 'expires_at') VIRTUAL,
    dies_at       INTEGER AS (CAST(substr(v, instr(v, x'3a') + 1) AS TEXT) ->> 'dies_at') VIRTUAL
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
    maker         TEXT AS (text ->> 'maker') VIRTUAL,
    offer_id      TEXT AS (text ->> 'offer_id') VIRTUAL,
    btc_quantity  TEXT AS (text ->> '$.terms.btc_quantity') VIRTUAL,
    price         TEXT AS (text ->> 'price') VIRTUAL,
    currency      TEXT AS (text ->> '$.terms.currency') VIRTUAL,
    executed_at   INTEGER AS (text ->> 'executed_at') VIRTUAL,
    UNIQUE (id, taker, bid_id)
) STRICT;

-- Own bids. An accepted one and its trade are stored by one commit, or neither is.
CREATE TABLE bids_out (
    id              TEXT PRIMARY KEY,
    bidder          TEXT NOT NULL,
    text            TEXT NOT NULL,
    sig             TEXT NOT NULL,
    outcome         TEXT NOT NULL CHECK (outcome IN ('in_doubt', 'accepted', 'refused')),
    trade_id        TEXT CHECK ((trade_id IS NOT NULL) = (outcome = 'accepted')),
    refusal_code    TEXT CHECK ((refusal_code IS NOT NULL) = (outcome = 'refused')),
    refusal_detail  TEXT,
    crc             INTEGER NOT NULL,
    offer_id     TEXT AS (text ->> 'offer_id') VIRTUAL,
    maker        TEXT AS (text ->> 'maker') VIRTUAL,
    price        TEXT AS (text ->> 'price') VIRTUAL,
    valid_until  INTEGER AS (text ->> 'valid_until') VIRTUAL,
    FOREIGN KEY (trade_id, bidder, id) REFERENCES trades (id, taker, bid_id) DEFERRABLE INITIALLY DEFERRED
) STRICT;

-- Bids on own offers, with the answer that each got.
CREATE TABLE bids_in (
    bidder          TEXT NOT NULL,
    id              TEXT NOT NULL,
    text            TEXT NOT NULL,
    sig             TEXT NOT NULL,
    answered_at     INTEGER NOT NULL,
    outcome         TEXT NOT NULL CHECK (outcome IN ('accepted', 'refused')),
    trade_id        TEXT CHECK ((trade_id IS NOT NULL) = (outcome = 'accepted')),
    refusal_code    TEXT CHECK ((refusal_code IS NOT NULL) = (outcome = 'refused')),
    refusal_detail  TEXT,
    crc             INTEGER NOT NULL,
    offer_id     TEXT AS (text ->> 'offer_id') VIRTUAL,
    price        TEXT AS (text ->> 'price') VIRTUAL,
    valid_until  INTEGER AS (text ->> 'valid_until') VIRTUAL,
    PRIMARY KEY (bidder, id),
    FOREIGN KEY (trade_id, bidder, id) REFERENCES trades (id, taker, bid_id) DEFERRABLE INITIALLY DEFERRED
) STRICT;

-- What requests with an idempotency key made.
CREATE TABLE idempotency_keys (
    key             TEXT PRIMARY KEY,
    request_sha256  TEXT NOT NULL,
    made            TEXT NOT NULL CHECK (made IN ('offer', 'bid')),
    made_id         TEXT NOT NULL,
    at              INTEGER NOT NULL,
    crc             INTEGER NOT NULL
) STRICT;
