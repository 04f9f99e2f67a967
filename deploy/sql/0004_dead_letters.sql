-- What could not be used, why, and where it came from.

CREATE TABLE dead_letters (
    id               text COLLATE "C" NOT NULL,
    tenant_id        text COLLATE "C" NOT NULL,
    session_id       text COLLATE "C" NOT NULL,
    ts               timestamptz NOT NULL,
    reason           text COLLATE "C" NOT NULL,
    detail_field     text COLLATE "C" NOT NULL,
    detail_expected  text COLLATE "C" NOT NULL,
    detail_got       text COLLATE "C" NOT NULL,
    source_topic     text COLLATE "C" NOT NULL,
    source_partition bigint NOT NULL,
    source_offset    bigint NOT NULL,
    payload          text COLLATE "C" NOT NULL,
    encoding         text COLLATE "C",
    PRIMARY KEY (id, ts)
);

CREATE INDEX idx_dead_letter_reason ON dead_letters (reason, ts DESC);
CREATE INDEX idx_dead_letter_time ON dead_letters (tenant_id, ts DESC);

COMMENT ON TABLE dead_letters IS 'One row for each record that could not be used.';
COMMENT ON COLUMN dead_letters.id IS 'Derived from where the record stands or what it is; the same in every run.';
COMMENT ON COLUMN dead_letters.tenant_id IS 'Whose record it is; empty if that could not be read.';
COMMENT ON COLUMN dead_letters.session_id IS 'Its session; empty if that could not be read.';
COMMENT ON COLUMN dead_letters.ts IS 'The record''s own time as its sender wrote it, even if absurd (0 to the year 9999), or when it was recorded if it has none.';
COMMENT ON COLUMN dead_letters.reason IS 'malformed_json, not_an_object, unknown_type, invalid_field, too_large, empty, late, early, unknown_intervention or refused_by_database.';
COMMENT ON COLUMN dead_letters.detail_field IS 'The field that is at fault; empty: the whole record.';
COMMENT ON COLUMN dead_letters.detail_expected IS 'What was expected there.';
COMMENT ON COLUMN dead_letters.detail_got IS 'What was there, or what the database said.';
COMMENT ON COLUMN dead_letters.source_topic IS 'The Kafka topic it came from; in a replay the file; when refused by the database, the topic it belongs to.';
COMMENT ON COLUMN dead_letters.source_partition IS 'The partition, from 0; -1 if it does not come from Kafka.';
COMMENT ON COLUMN dead_letters.source_offset IS 'The offset, in a replay the line, from 0; -1 if it does not come from Kafka.';
COMMENT ON COLUMN dead_letters.payload IS 'The record itself, at most its first 64 KiB: text, or what encoding says.';
COMMENT ON COLUMN dead_letters.encoding IS 'base64 if the payload is not UTF-8 text or holds a NUL; else null.';
