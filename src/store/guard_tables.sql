-- Times are milliseconds since 1970, UTC.

-- A slot is planned, then claimed (its run goes on) or dropped, then judged. Once.
CREATE TABLE slots (
    schedule TEXT NOT NULL,
    due_at INTEGER NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('schedule', 'asked')),
    configuration TEXT NOT NULL,
    start_at INTEGER NOT NULL,
    start_by INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'running', 'dropped', 'judged')),
    cause TEXT CHECK (cause IN ('overlap', 'paused', 'maintenance', 'removed', 'absent')),
    absence INTEGER REFERENCES absences (id),
    run TEXT UNIQUE,
    run_open INTEGER NOT NULL DEFAULT 0,
    claimed_at INTEGER,
    keeper TEXT,
    keeper_started_at INTEGER,
    start_error TEXT,
    verdict TEXT CHECK (verdict IN ('completed', 'no_signal', 'failed', 'timed_out', 'stalled',
        'interrupted', 'missed', 'skipped', 'unobserved')),
    reason TEXT,
    findings TEXT NOT NULL DEFAULT '[]',
    summary TEXT NOT NULL DEFAULT '{}',
    ended_at INTEGER,
    judged_at INTEGER,
    PRIMARY KEY (schedule, due_at),
    CHECK ((state = 'judged') = (verdict IS NOT NULL)),
    CHECK (state <> 'running' OR run IS NOT NULL)
) WITHOUT ROWID;
-- Two runs of one schedule are never open at once.
CREATE UNIQUE INDEX slots_open_run ON slots (schedule) WHERE run_open = 1;
CREATE INDEX slots_planned ON slots (start_at) WHERE state = 'planned';
CREATE INDEX slots_deadline ON slots (start_by) WHERE state = 'planned';
CREATE INDEX slots_dropped ON slots (due_at) WHERE state = 'dropped';
CREATE INDEX slots_by_time ON slots (due_at);

CREATE TABLE plans (
    schedule TEXT PRIMARY KEY,
    configuration TEXT NOT NULL,
    until INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE absences (
    id INTEGER PRIMARY KEY,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    n_unobserved INTEGER NOT NULL,
    n_caught_up INTEGER NOT NULL,
    told INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE pauses (
    schedule TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    until INTEGER,
    paused_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    request TEXT NOT NULL,
    asked_at INTEGER NOT NULL,
    answer TEXT
);

CREATE TABLE signs_of_life (
    who TEXT PRIMARY KEY,
    at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE incidents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    instance TEXT NOT NULL,
    schedule TEXT,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    state TEXT NOT NULL CHECK (state IN ('open', 'acked', 'resolved')),
    opened_at INTEGER NOT NULL,
    resolved_at INTEGER,
    runs_affected INTEGER NOT NULL,
    last_occasion TEXT,
    facts TEXT NOT NULL,
    notify TEXT NOT NULL,
    told_at INTEGER NOT NULL,
    n_reminders INTEGER NOT NULL DEFAULT 0,
    n_news INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX incidents_open ON incidents (key) WHERE state <> 'resolved';

-- The hand-over to the dispatcher. Rows are never changed.
CREATE TABLE news (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    incident INTEGER NOT NULL REFERENCES incidents (id),
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    -- The whole `watch::News` as JSON, its id aside.
    body TEXT NOT NULL,
    UNIQUE (incident, number)
);
