CREATE TABLE IF NOT EXISTS users (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of discovery
    user_id TEXT NOT NULL UNIQUE,
    discovered_from TEXT,
    depth INTEGER NOT NULL,
    state TEXT NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0,    -- in a row
    visited TEXT,                           -- the last day of a visit
    met TEXT NOT NULL                       -- the last day the source, or the settings, named the user
);
CREATE INDEX IF NOT EXISTS users_by_state ON users (state, seq);
CREATE INDEX IF NOT EXISTS users_by_visit ON users (visited, seq);
CREATE TABLE IF NOT EXISTS answers (
    day TEXT NOT NULL, request BLOB NOT NULL, status INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (day, request)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    day TEXT NOT NULL, source TEXT NOT NULL, part TEXT NOT NULL, rows BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS tracks (
    track_id TEXT PRIMARY KEY, described TEXT, met TEXT NOT NULL  -- the day it began to wait
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS waiting (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, track_id TEXT NOT NULL, batch INTEGER
);
CREATE INDEX IF NOT EXISTS waiting_by_batch ON waiting (topic, batch, id);
CREATE TABLE IF NOT EXISTS spending (
    day TEXT NOT NULL, what TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (day, what)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
