-- Tables of a store, format 1. "{schema}" is replaced by the quoted name of its schema.

CREATE TABLE {schema}.store (
    is_one boolean PRIMARY KEY DEFAULT true CHECK (is_one),
    format bigint NOT NULL,
    id uuid NOT NULL,
    payload text NOT NULL CHECK (payload IN ('json', 'bytes')),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A life of the store each: the first, and one for each declared restore.
CREATE TABLE {schema}.epochs (
    number bigint PRIMARY KEY,
    id uuid NOT NULL,
    began_after bigint NOT NULL,
    began_at timestamptz NOT NULL DEFAULT now()
);

-- The last fence that was given, the numbers of changes of leases and of inline projections, the
-- change of leases in which some were forgotten last, and the present life. It changes with those
-- alone: a row that every append changed could not be cleaned while a backup, or any other old
-- snapshot, is there.
CREATE TABLE {schema}.state (
    is_one boolean PRIMARY KEY DEFAULT true CHECK (is_one),
    fence bigint NOT NULL,
    lease_round bigint NOT NULL,
    forgotten_round bigint NOT NULL DEFAULT 0,
    inline_round bigint NOT NULL,
    epoch bigint NOT NULL
) WITH (fillfactor = 10);

-- An append each: what became durable together, and its link of the chain.
CREATE TABLE {schema}.appends (
    append bigint PRIMARY KEY,
    first bigint NOT NULL,
    events bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    hash bytea NOT NULL,
    bytes bigint NOT NULL,
    command uuid,
    digest bytea,
    answer bytea,
    consumer text COLLATE "C",
    source uuid,
    partition text COLLATE "C",
    checkpoint bigint,
    checkpoint_hash bytea
);
CREATE UNIQUE INDEX appends_command ON {schema}.appends (command) WHERE command IS NOT NULL;
-- Where each consumer stands is the last append that moved it: a row that every move changed could
-- not be cleaned while an old snapshot is there. In this order most pages are left full.
CREATE INDEX appends_consumer ON {schema}.appends
    (consumer, source, coalesce(partition, ''), append) WHERE consumer IS NOT NULL;

-- The end of the history: the last append.
CREATE VIEW {schema}.head AS
    SELECT coalesce(a.append, 0) AS append,
        coalesce(greatest(a.first, a.first + a.events - 1), 0) AS position,
        coalesce(a.hash, decode(repeat('00', 32), 'hex')) AS chain,
        a.recorded_at, s.fence, s.lease_round, s.inline_round, s.epoch
    FROM {schema}.state s LEFT JOIN LATERAL
        (SELECT * FROM {schema}.appends ORDER BY append DESC LIMIT 1) a ON true;

CREATE TABLE {schema}.events (
    position bigint PRIMARY KEY,
    append bigint NOT NULL,
    continues boolean NOT NULL,
    recorded_at timestamptz NOT NULL,
    stream text COLLATE "C",
    version bigint,
    type text COLLATE "C" NOT NULL,
    schema_version bigint NOT NULL,
    id uuid NOT NULL,
    id_is_minted boolean NOT NULL,
    content_type text COLLATE "C" NOT NULL,
    data json,
    data_bytes bytea,
    metadata json,
    metadata_bytes bytea,
    tags text[] COLLATE "C" NOT NULL,
    correlation text COLLATE "C",
    causation text COLLATE "C",
    traceparent text COLLATE "C",
    tracestate text COLLATE "C",
    key_ids text[] COLLATE "C",
    bytes bigint NOT NULL,
    CHECK ((stream IS NULL) = (version IS NULL)),
    CHECK (num_nonnulls(data, data_bytes) = 1),
    CHECK (num_nonnulls(metadata, metadata_bytes) <= 1)
);
CREATE UNIQUE INDEX events_stream ON {schema}.events (stream, version);
CREATE INDEX events_type ON {schema}.events (type, position);
CREATE INDEX events_category ON {schema}.events (split_part(stream, '-', 1), position)
    WHERE stream IS NOT NULL;
CREATE INDEX events_id ON {schema}.events (id, position) WHERE NOT id_is_minted;

CREATE TABLE {schema}.tags (
    tag text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tag, position)
);

CREATE TABLE {schema}.leases (
    work text COLLATE "C" PRIMARY KEY,
    holder uuid,
    fence bigint NOT NULL,
    until timestamptz NOT NULL,
    note bytea NOT NULL,
    round bigint NOT NULL
) WITH (fillfactor = 50);

-- The projections that every append writes in its own transaction.
CREATE TABLE {schema}.inline_projections (
    name text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL
);

-- A cache: it may be emptied at any time.
CREATE UNLOGGED TABLE {schema}.snapshots (
    key bytea PRIMARY KEY,
    value bytea NOT NULL
);

-- The last append that moved a consumer. Its key is compared as a row, which only the index
-- "appends_consumer" gives in order: the planner believes a move of any consumer to be near in
-- the index of numbers, and would read the whole history for one that stands still.
CREATE FUNCTION {schema}.last_move(name text, origin uuid, part text)
    RETURNS SETOF {schema}.appends
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT a.* FROM {schema}.appends a
    WHERE a.consumer IS NOT NULL
        AND (a.consumer, a.source, coalesce(a.partition, ''), a.append)
            >= (name COLLATE "C", origin, part COLLATE "C", 0)
        AND (a.consumer, a.source, coalesce(a.partition, ''), a.append)
            <= (name COLLATE "C", origin, part COLLATE "C", 9223372036854775807)
    ORDER BY a.consumer DESC, a.source DESC, coalesce(a.partition, '') DESC, a.append DESC
    LIMIT 1
$$;

-- The present checkpoint of each consumer, for people: from one to the next in the index.
CREATE VIEW {schema}.checkpoints AS
    WITH RECURSIVE moved AS (
        (SELECT a.* FROM {schema}.appends a WHERE a.consumer IS NOT NULL
            ORDER BY a.consumer DESC, a.source DESC, coalesce(a.partition, '') DESC, a.append DESC
            LIMIT 1)
        UNION ALL
        SELECT n.* FROM moved m, LATERAL (SELECT a.* FROM {schema}.appends a
            WHERE a.consumer IS NOT NULL AND (a.consumer, a.source, coalesce(a.partition, ''))
                < (m.consumer, m.source, coalesce(m.partition, ''))
            ORDER BY a.consumer DESC, a.source DESC, coalesce(a.partition, '') DESC, a.append DESC
            LIMIT 1) n)
    SELECT consumer, source, partition, checkpoint AS position, checkpoint_hash AS hash, append
    FROM moved;

-- The last position at or before a moment.
CREATE FUNCTION {schema}.position_at(moment timestamptz) RETURNS bigint
    LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    low bigint := 0;
    high bigint := (SELECT position FROM {schema}.head);
    middle bigint;
BEGIN
    WHILE low < high LOOP
        middle := (low + high + 1) / 2;
        IF (SELECT recorded_at <= moment FROM {schema}.events WHERE position = middle) THEN
            low := middle;
        ELSE
            high := middle - 1;
        END IF;
    END LOOP;
    RETURN low;
END $$;

-- The first version of a stream at or after a position.
CREATE FUNCTION {schema}.version_at(name text, at bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    low bigint := 1;
    high bigint := coalesce((SELECT version FROM {schema}.events
        WHERE stream = name COLLATE "C" ORDER BY version DESC LIMIT 1), 0) + 1;
    middle bigint;
BEGIN
    WHILE low < high LOOP
        middle := (low + high) / 2;
        IF (SELECT position >= at FROM {schema}.events
            WHERE stream = name COLLATE "C" AND version = middle) THEN
            high := middle;
        ELSE
            low := middle + 1;
        END IF;
    END LOOP;
    RETURN low;
END $$;

-- The types that begin with a text.
CREATE FUNCTION {schema}.types_beginning(prefix text) RETURNS SETOF text
    LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    found text := (SELECT type FROM {schema}.events
        WHERE type >= prefix COLLATE "C" ORDER BY type LIMIT 1);
BEGIN
    WHILE starts_with(found, prefix) LOOP
        RETURN NEXT found;
        found := (SELECT type FROM {schema}.events
            WHERE type > found COLLATE "C" ORDER BY type LIMIT 1);
    END LOOP;
END $$;

-- The leases that changed after a round; all of them if some were forgotten since. Almost always
-- none did: then the table, with all the versions of its rows that an old snapshot keeps, is not
-- looked at.
CREATE FUNCTION {schema}.leases_since(known bigint)
    RETURNS TABLE (all_of_them boolean, work text, holder uuid, fence bigint, until timestamptz,
        note bytea)
    LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF (SELECT s.lease_round FROM {schema}.state s) > known THEN
        RETURN QUERY SELECT s.forgotten_round > known, l.work, l.holder, l.fence, l.until, l.note
            FROM {schema}.state s LEFT JOIN {schema}.leases l
                ON l.round > known OR s.forgotten_round > known;
    END IF;
END $$;

-- Takes the lock of writers, the row of "state", and reads what a group of requests depends on:
-- each of its statements sees what was committed before the lock was given. "shown" is the append
-- that the process knows to be there. The versions of "asked" are always told; those of "kept",
-- which the process knows as they were after the append "through", if that is not the last one.
CREATE FUNCTION {schema}.group_facts(shown bigint, through bigint, asked text[], kept text[],
        commands uuid[], consumers text[], sources uuid[], partitions text[],
        OUT append bigint, OUT "position" bigint, OUT chain bytea, OUT recorded_at timestamptz,
        OUT fence bigint, OUT lease_round bigint, OUT inline_round bigint, OUT epoch bigint,
        OUT format bigint, OUT shown_hash bytea, OUT now timestamptz,
        OUT asked_versions bigint[], OUT kept_versions bigint[],
        OUT consumed bigint[], OUT repeated bigint[])
    LANGUAGE plpgsql VOLATILE SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM FROM {schema}.state FOR UPDATE;
    SELECT h.append, h.position, h.chain, h.recorded_at, h.fence, h.lease_round, h.inline_round,
            h.epoch, s.format, (SELECT a.hash FROM {schema}.appends a WHERE a.append = shown)
        INTO append, "position", chain, recorded_at, fence, lease_round, inline_round, epoch,
            format, shown_hash
        FROM {schema}.head h, {schema}.store s;
    now := clock_timestamp();
    IF cardinality(asked) > 0 THEN
        asked_versions := ARRAY(SELECT coalesce((SELECT e.version FROM {schema}.events e
                WHERE e.stream = name COLLATE "C" ORDER BY e.version DESC LIMIT 1), 0)
            FROM unnest(asked) name);
    END IF;
    IF append <> through AND cardinality(kept) > 0 THEN
        kept_versions := ARRAY(SELECT coalesce((SELECT e.version FROM {schema}.events e
                WHERE e.stream = name COLLATE "C" ORDER BY e.version DESC LIMIT 1), 0)
            FROM unnest(kept) name);
    END IF;
    IF cardinality(consumers) > 0 THEN
        consumed := ARRAY(SELECT
                (SELECT m.checkpoint FROM {schema}.last_move(t.name, t.source, t.part) m)
            FROM unnest(consumers, sources, partitions) t (name, source, part));
    END IF;
    IF cardinality(commands) > 0 THEN
        repeated := ARRAY(SELECT a.append FROM {schema}.appends a
            WHERE a.command = ANY (commands));
    END IF;
END $$;
