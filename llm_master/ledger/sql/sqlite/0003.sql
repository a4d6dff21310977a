-- Running upgrade 0002 -> 0003

CREATE TABLE usage_chunks (
    chunk INTEGER NOT NULL, 
    calls INTEGER NOT NULL, 
    first_ts INTEGER NOT NULL, 
    last_ts INTEGER NOT NULL, 
    plain BLOB, 
    tagged BLOB, 
    PRIMARY KEY (chunk)
);

CREATE TRIGGER usage_chunks_delete AFTER DELETE ON calls BEGIN DELETE FROM usage_chunks WHERE chunk = (OLD.seq - 1) / 8192; END;

CREATE TRIGGER usage_chunks_update AFTER UPDATE ON calls BEGIN DELETE FROM usage_chunks WHERE chunk IN ((OLD.seq - 1) / 8192, (NEW.seq - 1) / 8192); END;

UPDATE alembic_version SET version_num='0003' WHERE alembic_version.version_num = '0002';
