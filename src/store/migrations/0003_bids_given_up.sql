-- Own bids that their owner no longer waits for, and since when. In `bids_out` such a bid is in doubt still: only its maker's word
-- ends that, and with it the row here.
CREATE TABLE bids_given_up (
    id   TEXT PRIMARY KEY REFERENCES bids_out (id) ON DELETE CASCADE,
    at   INTEGER NOT NULL,
    crc  INTEGER NOT NULL
) STRICT;

DROP VIEW bids_out_view;
CREATE VIEW bids_out_view AS
SELECT id, bidder, outcome, trade_id, refusal_code, refusal_detail,
       (SELECT at FROM bids_given_up WHERE bids_given_up.id = bids_out.id) AS given_up_at,
       text ->> 'offer_id' AS offer_id,
       text ->> 'maker' AS maker,
       text ->> 'price' AS price,
       text ->> 'valid_until' AS valid_until
FROM bids_out;
