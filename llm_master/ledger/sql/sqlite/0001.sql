CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL, 
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> 0001

CREATE TABLE calls (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
    id TEXT NOT NULL, 
    ts INTEGER NOT NULL, 
    kind TEXT NOT NULL, 
    streamed INTEGER NOT NULL, 
    request_id TEXT, 
    model_asked TEXT NOT NULL, 
    model TEXT, 
    provider TEXT, 
    deployment TEXT, 
    key_id TEXT, 
    tags TEXT NOT NULL, 
    outcome TEXT NOT NULL, 
    error TEXT, 
    error_code TEXT, 
    finish_reason TEXT, 
    attempts INTEGER NOT NULL, 
    fallback INTEGER NOT NULL, 
    cached INTEGER NOT NULL, 
    input_tokens INTEGER NOT NULL, 
    output_tokens INTEGER NOT NULL, 
    cached_tokens INTEGER NOT NULL, 
    cache_write_tokens INTEGER NOT NULL, 
    cache_write_1h_tokens INTEGER NOT NULL, 
    reasoning_tokens INTEGER NOT NULL, 
    input_audio_tokens INTEGER NOT NULL, 
    output_audio_tokens INTEGER NOT NULL, 
    input_image_tokens INTEGER NOT NULL, 
    output_image_tokens INTEGER NOT NULL, 
    web_searches INTEGER NOT NULL, 
    usage_estimated INTEGER NOT NULL, 
    cost INTEGER, 
    cost_complete INTEGER NOT NULL, 
    price_source TEXT, 
    price_as_of TEXT, 
    service_tier TEXT, 
    latency_us INTEGER NOT NULL, 
    ttft_us INTEGER, 
    bytes_sent INTEGER NOT NULL, 
    bytes_received INTEGER NOT NULL, 
    contents TEXT, 
    CONSTRAINT calls_id UNIQUE (id)
);

CREATE TABLE attempts (
    call_id TEXT NOT NULL, 
    number INTEGER NOT NULL, 
    ts INTEGER NOT NULL, 
    provider TEXT NOT NULL, 
    model TEXT NOT NULL, 
    deployment TEXT, 
    key_id TEXT, 
    request_id TEXT, 
    outcome TEXT NOT NULL, 
    status_code INTEGER, 
    error TEXT, 
    error_code TEXT, 
    input_tokens INTEGER NOT NULL, 
    output_tokens INTEGER NOT NULL, 
    cached_tokens INTEGER NOT NULL, 
    cache_write_tokens INTEGER NOT NULL, 
    cache_write_1h_tokens INTEGER NOT NULL, 
    reasoning_tokens INTEGER NOT NULL, 
    input_audio_tokens INTEGER NOT NULL, 
    output_audio_tokens INTEGER NOT NULL, 
    input_image_tokens INTEGER NOT NULL, 
    output_image_tokens INTEGER NOT NULL, 
    web_searches INTEGER NOT NULL, 
    usage_estimated INTEGER NOT NULL, 
    cost INTEGER, 
    cost_complete INTEGER NOT NULL, 
    price_source TEXT, 
    latency_us INTEGER NOT NULL, 
    ttft_us INTEGER, 
    waited_us INTEGER NOT NULL, 
    wait_reason TEXT, 
    PRIMARY KEY (call_id, number)
)
 WITHOUT ROWID;

CREATE TABLE call_tags (
    tag TEXT NOT NULL, 
    call_id TEXT NOT NULL, 
    ts INTEGER NOT NULL, 
    PRIMARY KEY (tag, call_id)
)
 WITHOUT ROWID;

INSERT INTO alembic_version (version_num) VALUES ('0001') RETURNING version_num;
