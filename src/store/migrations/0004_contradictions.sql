-- Proofs that makers contradict themselves: of a record, its version and the other version, or the other record, that it contradicts.
-- `equivocations` holds what was found before, two values of one sequence each; it is read, and nothing is added to it.
CREATE TABLE contradictions (
    target     TEXT PRIMARY KEY,
    k          TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    v          BLOB NOT NULL,
    sig        TEXT NOT NULL,
    other_k    TEXT NOT NULL,
    other_seq  INTEGER NOT NULL,
    other_v    BLOB NOT NULL,
    other_sig  TEXT NOT NULL,
    crc        INTEGER NOT NULL
) STRICT;

-- Others' records that are on no list though their newest version says that they can be taken, and until when that is remembered.
CREATE TABLE unlisted (
    target  TEXT PRIMARY KEY,
    why     TEXT NOT NULL CHECK (why = 'repriced' OR why = 'contradicted'),
    until   INTEGER NOT NULL,
    crc     INTEGER NOT NULL
) STRICT;
