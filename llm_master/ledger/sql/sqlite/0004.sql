-- Running upgrade 0003 -> 0004

DROP TRIGGER usage_chunks_update;

DROP TRIGGER usage_chunks_delete;

DROP TABLE usage_chunks;

CREATE TABLE usage_chunks (
    chunk INTEGER NOT NULL, 
    calls INTEGER NOT NULL, 
    first_ts INTEGER NOT NULL, 
    last_ts INTEGER NOT NULL, 
    PRIMARY KEY (chunk)
);

CREATE TABLE usage_sums (
    chunk INTEGER NOT NULL, 
    name TEXT NOT NULL, 
    data BLOB NOT NULL, 
    PRIMARY KEY (chunk, name)
);

CREATE TRIGGER usage_chunks_delete AFTER DELETE ON calls BEGIN DELETE FROM usage_chunks WHERE chunk = (OLD.seq - 1) / 8192; DELETE FROM usage_sums WHERE chunk = (OLD.seq - 1) / 8192; END;

CREATE TRIGGER usage_chunks_update AFTER UPDATE ON calls BEGIN DELETE FROM usage_chunks WHERE chunk IN ((OLD.seq - 1) / 8192, (NEW.seq - 1) / 8192); DELETE FROM usage_sums WHERE chunk IN ((OLD.seq - 1) / 8192, (NEW.seq - 1) / 8192); END;

UPDATE alembic_version SET version_num='0004' WHERE alembic_version.version_num = '0003';
