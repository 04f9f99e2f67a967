-- Runs at every migrate: views for people about chat answers, and about what could not be used.

CREATE OR REPLACE FUNCTION analytics.wilson(successes bigint, trials bigint, side integer) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN trials > 0 THEN greatest(0.0::float8, least(1.0::float8, (
        2 * successes + 3.841458820694124 + side * sqrt(3.841458820694124)
            * sqrt(3.841458820694124 + 4 * successes * (1 - successes::float8 / trials))
    ) / (2 * (trials + 3.841458820694124)))) END;
END;

COMMENT ON FUNCTION analytics.wilson IS 'A bound of Wilson''s score interval (1927), 95 %, of a proportion: side -1 the lower, 1 the upper, 0..1. Null without trials.';

CREATE OR REPLACE VIEW analytics.decisions_by_path WITH (security_barrier) AS
SELECT tenant_id, hour, agent_id, path, letter, sum(answers)::bigint AS answers,
       sum(confidence_sum) / sum(answers)::float8 AS mean_confidence
FROM decision_hours
WHERE tenant_id = ANY ((SELECT analytics.tenants())::text[])
GROUP BY tenant_id, hour, agent_id, path, letter;

COMMENT ON VIEW analytics.decisions_by_path IS 'Chat answers by hour, agent and path.';
COMMENT ON COLUMN analytics.decisions_by_path.tenant_id IS 'The tenant.';
COMMENT ON COLUMN analytics.decisions_by_path.hour IS 'The hour''s beginning, UTC, event time.';
COMMENT ON COLUMN analytics.decisions_by_path.agent_id IS 'The agent (bot) that answered.';
COMMENT ON COLUMN analytics.decisions_by_path.path IS 'auto_answer, clarify, canonical, escalate, queue or refuse.';
COMMENT ON COLUMN analytics.decisions_by_path.letter IS 'The path''s letter, A to F in that order.';
COMMENT ON COLUMN analytics.decisions_by_path.answers IS 'Answers, count from 1.';
COMMENT ON COLUMN analytics.decisions_by_path.mean_confidence IS 'Their mean confidence, 0..1.';

CREATE OR REPLACE VIEW analytics.escalation_rate WITH (security_barrier) AS
SELECT tenant_id, hour, answers, handed_over, handed_over::float8 / answers AS rate,
       analytics.wilson(handed_over, answers, -1) AS low, analytics.wilson(handed_over, answers, 1) AS high
FROM (
    SELECT tenant_id, hour, sum(answers)::bigint AS answers,
           coalesce(sum(answers) FILTER (WHERE letter IN ('D', 'E')), 0)::bigint AS handed_over
    FROM decision_hours
    WHERE tenant_id = ANY ((SELECT analytics.tenants())::text[])
    GROUP BY tenant_id, hour
) AS hours;

COMMENT ON VIEW analytics.escalation_rate IS 'How many chat answers called a person, by tenant and hour, counted by answers: a conversation of ten answers and one hand-off has 0.1.';
COMMENT ON COLUMN analytics.escalation_rate.tenant_id IS 'The tenant.';
COMMENT ON COLUMN analytics.escalation_rate.hour IS 'The hour''s beginning, UTC, event time.';
COMMENT ON COLUMN analytics.escalation_rate.answers IS 'Answers, count from 1.';
COMMENT ON COLUMN analytics.escalation_rate.handed_over IS 'Those that called a person (paths D and E), count from 0.';
COMMENT ON COLUMN analytics.escalation_rate.rate IS 'handed_over / answers, 0..1.';
COMMENT ON COLUMN analytics.escalation_rate.low IS 'Lower bound of the rate, 0..1: Wilson''s score interval, 95 %.';
COMMENT ON COLUMN analytics.escalation_rate.high IS 'Upper bound of the rate, 0..1: Wilson''s score interval, 95 %.';

CREATE OR REPLACE VIEW analytics.calibration_by_band WITH (security_barrier) AS
SELECT calibration.tenant_id, calibration.ts, band.low, band.high, band.resolved, band.confidence AS said,
       band.not_needed AS was, band.confidence - band.not_needed AS gap
FROM calibration
CROSS JOIN LATERAL jsonb_to_recordset(calibration.bands)
    AS band (low float8, high float8, resolved bigint, confidence float8, not_needed float8)
WHERE calibration.tenant_id = ANY ((SELECT analytics.tenants())::text[]);

COMMENT ON VIEW analytics.calibration_by_band IS 'Each calibration by bands of confidence. Where was is far above said, answers of that band are handed over without need.';
COMMENT ON COLUMN analytics.calibration_by_band.tenant_id IS 'The tenant.';
COMMENT ON COLUMN analytics.calibration_by_band.ts IS 'Up to when hand-offs are counted, event time.';
COMMENT ON COLUMN analytics.calibration_by_band.low IS 'The band''s least confidence, 0..1.';
COMMENT ON COLUMN analytics.calibration_by_band.high IS 'The band''s end, 0..1; only the last band holds it.';
COMMENT ON COLUMN analytics.calibration_by_band.resolved IS 'Resolved hand-offs of the band, count from 0.';
COMMENT ON COLUMN analytics.calibration_by_band.said IS 'Their mean confidence, 0..1: the chance that no person was needed, as it was said.';
COMMENT ON COLUMN analytics.calibration_by_band.was IS 'The share of them for which no person was needed, 0..1.';
COMMENT ON COLUMN analytics.calibration_by_band.gap IS 'said - was, -1..1; 0 is best.';

CREATE OR REPLACE VIEW analytics.dead_letters_by_reason WITH (security_barrier) AS
SELECT tenant_id, date_bin('1 hour', ts, '2000-01-01 00:00:00+00') AS hour, reason, source_topic, detail_field,
       count(*) AS letters, count(DISTINCT session_id) AS sessions, min(source_offset) AS first_offset,
       max(source_offset) AS last_offset
FROM dead_letters
WHERE tenant_id = ANY ((SELECT analytics.tenants())::text[])
GROUP BY tenant_id, date_bin('1 hour', ts, '2000-01-01 00:00:00+00'), reason, source_topic, detail_field;

COMMENT ON VIEW analytics.dead_letters_by_reason IS 'What could not be used, by hour, reason and source; no content. Records whose tenant could not be read are the tenant '''' (empty), whom a login must be admitted to, too.';
COMMENT ON COLUMN analytics.dead_letters_by_reason.tenant_id IS 'Whose records they are; empty if that could not be read.';
COMMENT ON COLUMN analytics.dead_letters_by_reason.hour IS 'The hour''s beginning, UTC, of the records'' own time, which may be absurd.';
COMMENT ON COLUMN analytics.dead_letters_by_reason.reason IS 'malformed_json, not_an_object, unknown_type, invalid_field, too_large, empty, late, early, unknown_intervention or refused_by_database.';
COMMENT ON COLUMN analytics.dead_letters_by_reason.source_topic IS 'The Kafka topic they came from; in a replay the file.';
COMMENT ON COLUMN analytics.dead_letters_by_reason.detail_field IS 'The field at fault; empty: the whole record.';
COMMENT ON COLUMN analytics.dead_letters_by_reason.letters IS 'Dead letters, count from 1.';
COMMENT ON COLUMN analytics.dead_letters_by_reason.sessions IS 'Distinct sessions, count from 1; those that could not be read count as one.';
COMMENT ON COLUMN analytics.dead_letters_by_reason.first_offset IS 'The lowest offset (in a replay: line), of any partition.';
COMMENT ON COLUMN analytics.dead_letters_by_reason.last_offset IS 'The highest offset (in a replay: line), of any partition.';

CREATE OR REPLACE VIEW analytics.late_data WITH (security_barrier) AS
SELECT tenant_id, date_bin('1 hour', ts, '2000-01-01 00:00:00+00') AS hour, source_topic,
       count(*) FILTER (WHERE reason = 'late') AS late, count(*) FILTER (WHERE reason = 'early') AS early,
       count(DISTINCT session_id) AS sessions,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY said.off_s) FILTER (WHERE reason = 'late') AS late_s_median,
       max(said.off_s) FILTER (WHERE reason = 'late') AS late_s_max,
       max(said.off_s) FILTER (WHERE reason = 'early') AS early_s_max
FROM dead_letters
CROSS JOIN LATERAL (SELECT substring(detail_got FROM '(\d+) ms (?:beyond|ahead)')::float8 / 1000) AS said (off_s)
WHERE tenant_id = ANY ((SELECT analytics.tenants())::text[]) AND reason IN ('late', 'early')
GROUP BY tenant_id, date_bin('1 hour', ts, '2000-01-01 00:00:00+00'), source_topic;

COMMENT ON VIEW analytics.late_data IS 'Events that came too late or too early to count, by hour and source.';
COMMENT ON COLUMN analytics.late_data.tenant_id IS 'Whose events they are.';
COMMENT ON COLUMN analytics.late_data.hour IS 'The hour''s beginning, UTC, of the events'' own time.';
COMMENT ON COLUMN analytics.late_data.source_topic IS 'The Kafka topic they came from; in a replay the file.';
COMMENT ON COLUMN analytics.late_data.late IS 'Events that came after their tick was closed, count from 0.';
COMMENT ON COLUMN analytics.late_data.early IS 'Events far ahead of when they were recorded, count from 0.';
COMMENT ON COLUMN analytics.late_data.sessions IS 'Distinct sessions, count from 1.';
COMMENT ON COLUMN analytics.late_data.late_s_median IS 'By how much stream time was beyond the late ones: the median, seconds; null without one.';
COMMENT ON COLUMN analytics.late_data.late_s_max IS 'The same: the most, seconds; null without one.';
COMMENT ON COLUMN analytics.late_data.early_s_max IS 'By how much the early ones were ahead of their record: the most, seconds; null without one.';
