-- Running upgrade 0001 -> 0002

CREATE INDEX calls_ts ON calls (ts);

CREATE INDEX calls_request_id ON calls (request_id) WHERE request_id IS NOT NULL;

CREATE INDEX attempts_request_id ON attempts (request_id) WHERE request_id IS NOT NULL;

CREATE INDEX call_tags_call_id ON call_tags (call_id);

CREATE TABLE ledger_identity (
    id TEXT NOT NULL, 
    PRIMARY KEY (id)
);

INSERT INTO ledger_identity (id) VALUES (gen_random_uuid()::text);

UPDATE alembic_version SET version_num='0002' WHERE alembic_version.version_num = '0001';
