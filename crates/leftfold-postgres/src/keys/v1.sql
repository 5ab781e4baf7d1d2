-- Tables of a key store, format 1. "{schema}" is replaced by the quoted name of its schema.
-- Autovacuum comes to a table as soon as one row was deleted: what is destroyed is not to lie about.

-- Identity of the key store, and the secret that values are looked up with.
CREATE TABLE {schema}.key_store (
    is_one boolean PRIMARY KEY DEFAULT true CHECK (is_one),
    format bigint NOT NULL,
    id uuid NOT NULL,
    lookup bytea NOT NULL CHECK (octet_length(lookup) = 32),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE {schema}.keys (
    id bytea PRIMARY KEY,
    subject text COLLATE "C" NOT NULL UNIQUE,
    secret bytea NOT NULL CHECK (octet_length(secret) = 32)
) WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE {schema}.destroyed (
    number bigint GENERATED ALWAYS AS IDENTITY,
    id bytea PRIMARY KEY,
    subject text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX destroyed_subject ON {schema}.destroyed (subject, number);

-- The token of a value that somebody has; outlives: a forgotten subject had the value too.
CREATE TABLE {schema}.tokens (
    name text COLLATE "C" NOT NULL,
    hash bytea NOT NULL,
    token bytea NOT NULL,
    outlives boolean NOT NULL DEFAULT false,
    PRIMARY KEY (name, hash)
) WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX tokens_outlives ON {schema}.tokens (name, hash) WHERE outlives;

CREATE TABLE {schema}.owners (
    owner bytea NOT NULL REFERENCES {schema}.keys,
    name text COLLATE "C" NOT NULL,
    hash bytea NOT NULL,
    since timestamptz NOT NULL,
    PRIMARY KEY (owner, name, hash),
    FOREIGN KEY (name, hash) REFERENCES {schema}.tokens
) WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX owners_value ON {schema}.owners (name, hash);
