-- A ledger of version 1, as it was written before releases were recorded.
BEGIN TRANSACTION;
CREATE TABLE batch (
    id INTEGER PRIMARY KEY,
    target TEXT NOT NULL,
    lane TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    started REAL NOT NULL,
    confirmed REAL NOT NULL,
    handed_over REAL
);
INSERT INTO "batch" VALUES(1,'t','bulk','md5',10.0,20.0,21.0);
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL,
    name BLOB NOT NULL,
    kind TEXT NOT NULL,
    dev INTEGER NOT NULL,
    ino INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    digest TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    first_seen REAL NOT NULL,
    part INTEGER NOT NULL,
    kept TEXT
);
INSERT INTO "delivery" VALUES(1,1,X'61FF','file',1,2,3,4,5,'ab',0,0.0,0,NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('owner','0badcafe');
CREATE TABLE mirrored (
    name BLOB NOT NULL,
    target TEXT NOT NULL,
    kind TEXT NOT NULL,
    dev INTEGER NOT NULL,
    ino INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    PRIMARY KEY (name, target)
) WITHOUT ROWID;
CREATE TABLE trouble (
    name BLOB NOT NULL,
    target TEXT NOT NULL,
    quarantined INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    fault TEXT NOT NULL,
    reason TEXT NOT NULL,
    since REAL NOT NULL,
    retry_at REAL NOT NULL,
    dev INTEGER, ino INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
    moved_to BLOB,
    PRIMARY KEY (name, target)
) WITHOUT ROWID;
INSERT INTO "trouble" VALUES(X'626164','t',1,3,'source','no',1.0,0.0,NULL,NULL,NULL,NULL,NULL,X'2F712F626164');
CREATE INDEX batch_open ON batch (id) WHERE handed_over IS NULL;
CREATE INDEX delivery_batch ON delivery (batch);
COMMIT;
PRAGMA user_version = 1;
