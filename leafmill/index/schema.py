"""The tables of an index, one SQLite file per run (`index.db`): a cache of what the ledger says, by candidate and summed up.

`candidates.n` numbers candidates in the order in which they were first begun and stays the same when one is begun again. What a row says
of its text (lengths in characters, first lines) is of its last version. `search` is keyed by `candidates.doc`, which changes when a
candidate ends anew: what is found under an old one joins with nothing.
"""

from __future__ import annotations

VERSION = 5
"""of these tables: an index of another version is made anew"""

STEPS = ("started", "screened", "answered", "agreed", "scored", "admitted")
"""The funnel. A candidate has come as far as the last of them that it passed; `candidates.step` is its place here."""

SCORES = ("ifd", "panel", "deviation", "critic", "similarity", "instruction_length", "answer_length", "tokens", "seconds")
"""columns of `candidates` that are numbers to filter, sort and plot by; NULL where it is not known"""

DDL = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS candidates (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    leaf TEXT NOT NULL,
    number INTEGER NOT NULL,
    language TEXT NOT NULL,
    state TEXT NOT NULL,
    stage TEXT NOT NULL,
    code TEXT NOT NULL,
    step INTEGER NOT NULL,
    begun_at REAL NOT NULL,
    ended_at REAL,
    instruction TEXT NOT NULL DEFAULT '',    -- the beginning of what the user says first, on one line, at most 200 characters
    answer TEXT NOT NULL DEFAULT '',         -- the same of the last answer
    instruction_length INTEGER,
    answer_length INTEGER,
    exchanges INTEGER NOT NULL DEFAULT 1,
    calls INTEGER NOT NULL DEFAULT 0,
    tokens INTEGER NOT NULL DEFAULT 0,       -- prompt + completion of all its calls
    money REAL,                              -- of the calls whose cost is known; NULL where none is
    seconds REAL NOT NULL DEFAULT 0,         -- summed over its calls
    ifd REAL,                                -- the last value of the gate of that name; of semantic/minhash: similarity
    panel REAL,                              -- median of the last votes of the panel
    deviation REAL,                          -- standard deviation of the same
    critic REAL,
    similarity REAL,                         -- to the nearest neighbour that was looked at, 0..1
    neighbour TEXT,                          -- its id
    axes TEXT NOT NULL DEFAULT '{}',         -- its value of each axis, as JSON: equal ones are spelled alike
    doc INTEGER
);
CREATE INDEX IF NOT EXISTS by_leaf ON candidates (leaf, n);
CREATE INDEX IF NOT EXISTS by_state ON candidates (state, n);
CREATE INDEX IF NOT EXISTS by_code ON candidates (code, n);
CREATE INDEX IF NOT EXISTS by_ended ON candidates (ended_at, n);
CREATE INDEX IF NOT EXISTS by_doc ON candidates (doc);
-- What is counted, plotted and sorted by is read from here: the rows themselves are ten times as wide
CREATE INDEX IF NOT EXISTS counted ON candidates (
    leaf, state, stage, code, language, step, doc, ifd, panel, deviation, critic, similarity, instruction_length, answer_length, tokens,
    seconds, money, ended_at
);
CREATE INDEX IF NOT EXISTS planned ON candidates (leaf, language, axes, state);

-- What a candidate is found by, beside its columns. kind: axis.<name>, concept, model, role, variant (role.variant), operator,
-- gate (that refused it)
CREATE TABLE IF NOT EXISTS tags (
    kind TEXT NOT NULL, value TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (kind, value, n)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tags_of ON tags (n);

-- The last panel's votes. seat: as leafmill.records.seat_names tells them apart is left to the reader
CREATE TABLE IF NOT EXISTS votes (
    n INTEGER NOT NULL, role TEXT NOT NULL, alias TEXT NOT NULL, value REAL, PRIMARY KEY (n, role, alias)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS votes_of ON votes (role, alias, value);

-- All calls, summed. node: the node of the graph that asked ("scenarios" and the like of what a leaf asks)
CREATE TABLE IF NOT EXISTS spent (
    leaf TEXT NOT NULL, node TEXT NOT NULL, role TEXT NOT NULL, variant TEXT NOT NULL, prompt TEXT NOT NULL,  -- hash of its file
    alias TEXT NOT NULL, model TEXT NOT NULL, status TEXT NOT NULL,
    calls INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, uncounted INTEGER NOT NULL,
    money REAL NOT NULL, unpriced INTEGER NOT NULL, retries INTEGER NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (leaf, node, role, variant, prompt, alias, model, status)
) WITHOUT ROWID;

-- How long calls that succeeded took: bucket b holds those from 1.05^b to 1.05^(b+1) milliseconds
CREATE TABLE IF NOT EXISTS latencies (
    role TEXT NOT NULL, model TEXT NOT NULL, bucket INTEGER NOT NULL, calls INTEGER NOT NULL, PRIMARY KEY (role, model, bucket)
) WITHOUT ROWID;

CREATE VIRTUAL TABLE IF NOT EXISTS search USING fts5(text, content='', tokenize='unicode61 remove_diacritics 2');
""" + "".join(f"\nCREATE INDEX IF NOT EXISTS by_{score} ON candidates ({score}, n, state, language, leaf);\n" for score in SCORES)
