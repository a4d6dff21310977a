-- Running upgrade 0001 -> 0002

CREATE INDEX calls_ts ON calls (ts);

CREATE INDEX calls_request_id ON calls (request_id) WHERE request_id IS NOT NULL;

CREATE INDEX attempts_request_id ON attempts (request_id) WHERE request_id IS NOT NULL;

CREATE INDEX call_tags_call_id ON call_tags (call_id);

CREATE TABLE forwarding (
    target TEXT NOT NULL, 
    identity TEXT, 
    mark INTEGER NOT NULL, 
    holder TEXT, 
    expires INTEGER NOT NULL, 
    PRIMARY KEY (target)
);

CREATE TABLE forwarding_refused (
    target TEXT NOT NULL, 
    seq INTEGER NOT NULL, 
    error TEXT NOT NULL, 
    PRIMARY KEY (target, seq)
);

UPDATE alembic_version SET version_num='0002' WHERE alembic_version.version_num = '0001';
