-- What each maker last said of all its records, as it signed it: a cache, which the network tells again. It tells a node that
-- starts where the others are, and what it lacks.
CREATE TABLE heads (
    maker  TEXT PRIMARY KEY,
    at     INTEGER NOT NULL,
    head   BLOB NOT NULL,
    crc    INTEGER NOT NULL
) STRICT;
