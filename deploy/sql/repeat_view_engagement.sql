-- Runs at every migrate: views for people about sessions. They are replaced, not dropped, so that what others build on
-- them stays; a release that takes a column away drops the view in a numbered migration first.
--
-- security_barrier, so that a function in a query's condition is not shown other tenants' rows before they are filtered
-- out. analytics.tenants() stands in a subquery, so that it is asked once and an index can use its answer.

DO $$
DECLARE
    name text;
    part text;
    told text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'engagement_metrics', 'anomalies', 'sessions', 'emotions', 'interventions', 'intervention_outcomes',
        'agent_performance', 'orchestrator_decisions', 'handoffs', 'calibration'
    ]
    LOOP
        EXECUTE format(
            'CREATE OR REPLACE VIEW analytics.%I WITH (security_barrier) AS SELECT * FROM %I '
            'WHERE tenant_id = ANY ((SELECT analytics.tenants())::text[])',
            name, name
        );
        EXECUTE format('COMMENT ON VIEW analytics.%I IS %L', name, obj_description(name::regclass, 'pg_class'));
        FOR part, told IN
            SELECT attname, col_description(attrelid, attnum) FROM pg_attribute
            WHERE attrelid = name::regclass AND attnum > 0 AND NOT attisdropped
        LOOP
            EXECUTE format('COMMENT ON COLUMN analytics.%I.%I IS %L', name, part, told);
        END LOOP;
    END LOOP;
END
$$;

CREATE OR REPLACE VIEW analytics.engagement_by_minute WITH (security_barrier) AS
SELECT tenant_id, session_id, session_start, minute, ticks,
       score_sum / ticks AS score, score_min, score_max,
       chat_sum::float8 / ticks AS chat_per_min, reactions_sum::float8 / ticks AS reactions_per_min,
       connected_sum::float8 / ticks AS connected_users, connected_max,
       active_sum::float8 / ticks AS active_users,
       participation_sum / ticks AS poll_participation, leave_sum / ticks AS leave_rate
FROM engagement_minutes
WHERE tenant_id = ANY ((SELECT analytics.tenants())::text[]);

COMMENT ON VIEW analytics.engagement_by_minute IS 'Engagement of each session by minute: means over its ticks.';
COMMENT ON COLUMN analytics.engagement_by_minute.tenant_id IS 'Whose session it is.';
COMMENT ON COLUMN analytics.engagement_by_minute.session_id IS 'The session; unique within its tenant.';
COMMENT ON COLUMN analytics.engagement_by_minute.session_start IS 'The session''s first event.';
COMMENT ON COLUMN analytics.engagement_by_minute.minute IS 'The minute''s beginning, event time; it counts ticks of minute <= ts < minute + 1 min.';
COMMENT ON COLUMN analytics.engagement_by_minute.ticks IS 'Ticks, count from 1; 12 in a full minute.';
COMMENT ON COLUMN analytics.engagement_by_minute.score IS 'Mean score, 0..1.';
COMMENT ON COLUMN analytics.engagement_by_minute.score_min IS 'Lowest score, 0..1.';
COMMENT ON COLUMN analytics.engagement_by_minute.score_max IS 'Highest score, 0..1.';
COMMENT ON COLUMN analytics.engagement_by_minute.chat_per_min IS 'Mean of chat messages in the 60 s before a tick, from 0.';
COMMENT ON COLUMN analytics.engagement_by_minute.reactions_per_min IS 'Mean of reactions in the 60 s before a tick, from 0.';
COMMENT ON COLUMN analytics.engagement_by_minute.connected_users IS 'Mean of users present, from 0.';
COMMENT ON COLUMN analytics.engagement_by_minute.connected_max IS 'The most users present at a tick, count from 0.';
COMMENT ON COLUMN analytics.engagement_by_minute.active_users IS 'Mean of users who acted in the 60 s before a tick, from 0.';
COMMENT ON COLUMN analytics.engagement_by_minute.poll_participation IS 'Mean poll participation, 0..1.';
COMMENT ON COLUMN analytics.engagement_by_minute.leave_rate IS 'Mean leave rate, 0..1.';

CREATE OR REPLACE VIEW analytics.engagement_by_hour WITH (security_barrier) AS
SELECT tenant_id, session_id, session_start, hour, ticks,
       score_sum / ticks AS score, score_min, score_max,
       chat_sum::float8 / ticks AS chat_per_min, reactions_sum::float8 / ticks AS reactions_per_min,
       connected_sum::float8 / ticks AS connected_users, connected_max,
       active_sum::float8 / ticks AS active_users,
       participation_sum / ticks AS poll_participation, leave_sum / ticks AS leave_rate
FROM engagement_hours
WHERE tenant_id = ANY ((SELECT analytics.tenants())::text[]);

COMMENT ON VIEW analytics.engagement_by_hour IS 'Engagement of each session by hour: means over its ticks.';
COMMENT ON COLUMN analytics.engagement_by_hour.tenant_id IS 'Whose session it is.';
COMMENT ON COLUMN analytics.engagement_by_hour.session_id IS 'The session; unique within its tenant.';
COMMENT ON COLUMN analytics.engagement_by_hour.session_start IS 'The session''s first event.';
COMMENT ON COLUMN analytics.engagement_by_hour.hour IS 'The hour''s beginning, UTC, event time.';
COMMENT ON COLUMN analytics.engagement_by_hour.ticks IS 'Ticks, count from 1; 720 in a full hour.';
COMMENT ON COLUMN analytics.engagement_by_hour.score IS 'Mean score, 0..1.';
COMMENT ON COLUMN analytics.engagement_by_hour.score_min IS 'Lowest score, 0..1.';
COMMENT ON COLUMN analytics.engagement_by_hour.score_max IS 'Highest score, 0..1.';
COMMENT ON COLUMN analytics.engagement_by_hour.chat_per_min IS 'Mean of chat messages in the 60 s before a tick, from 0.';
COMMENT ON COLUMN analytics.engagement_by_hour.reactions_per_min IS 'Mean of reactions in the 60 s before a tick, from 0.';
COMMENT ON COLUMN analytics.engagement_by_hour.connected_users IS 'Mean of users present, from 0.';
COMMENT ON COLUMN analytics.engagement_by_hour.connected_max IS 'The most users present at a tick, count from 0.';
COMMENT ON COLUMN analytics.engagement_by_hour.active_users IS 'Mean of users who acted in the 60 s before a tick, from 0.';
COMMENT ON COLUMN analytics.engagement_by_hour.poll_participation IS 'Mean poll participation, 0..1.';
COMMENT ON COLUMN analytics.engagement_by_hour.leave_rate IS 'Mean leave rate, 0..1.';

CREATE OR REPLACE VIEW analytics.tenant_engagement_by_minute WITH (security_barrier) AS
SELECT tenant_id, minute, count(*) AS sessions, sum(ticks)::bigint AS ticks,
       sum(score_sum) / sum(ticks)::float8 AS score, min(score_min) AS score_min, max(score_max) AS score_max,
       sum(connected_sum::float8 / ticks) AS connected_users, sum(active_sum::float8 / ticks) AS active_users
FROM engagement_minutes
WHERE tenant_id = ANY ((SELECT analytics.tenants())::text[])
GROUP BY tenant_id, minute;

COMMENT ON VIEW analytics.tenant_engagement_by_minute IS 'Engagement of each tenant by minute, all its sessions together.';
COMMENT ON COLUMN analytics.tenant_engagement_by_minute.tenant_id IS 'The tenant.';
COMMENT ON COLUMN analytics.tenant_engagement_by_minute.minute IS 'The minute''s beginning, event time.';
COMMENT ON COLUMN analytics.tenant_engagement_by_minute.sessions IS 'Sessions with a tick, count from 1.';
COMMENT ON COLUMN analytics.tenant_engagement_by_minute.ticks IS 'Ticks, count from 1.';
COMMENT ON COLUMN analytics.tenant_engagement_by_minute.score IS 'Mean score over all ticks, 0..1.';
COMMENT ON COLUMN analytics.tenant_engagement_by_minute.score_min IS 'Lowest score, 0..1.';
COMMENT ON COLUMN analytics.tenant_engagement_by_minute.score_max IS 'Highest score, 0..1.';
COMMENT ON COLUMN analytics.tenant_engagement_by_minute.connected_users IS 'Users present: the sum of the sessions'' means, from 0.';
COMMENT ON COLUMN analytics.tenant_engagement_by_minute.active_users IS 'Users who acted: the sum of the sessions'' means, from 0.';

CREATE OR REPLACE VIEW analytics.tenant_engagement_by_hour WITH (security_barrier) AS
SELECT tenant_id, hour, count(*) AS sessions, sum(ticks)::bigint AS ticks,
       sum(score_sum) / sum(ticks)::float8 AS score, min(score_min) AS score_min, max(score_max) AS score_max,
       sum(connected_sum)::float8 * 5 / 3600 AS connected_users, sum(active_sum)::float8 * 5 / 3600 AS active_users
FROM engagement_hours
WHERE tenant_id = ANY ((SELECT analytics.tenants())::text[])
GROUP BY tenant_id, hour;

COMMENT ON VIEW analytics.tenant_engagement_by_hour IS 'Engagement of each tenant by hour, all its sessions together.';
COMMENT ON COLUMN analytics.tenant_engagement_by_hour.tenant_id IS 'The tenant.';
COMMENT ON COLUMN analytics.tenant_engagement_by_hour.hour IS 'The hour''s beginning, UTC, event time.';
COMMENT ON COLUMN analytics.tenant_engagement_by_hour.sessions IS 'Sessions with a tick, count from 1.';
COMMENT ON COLUMN analytics.tenant_engagement_by_hour.ticks IS 'Ticks, count from 1.';
COMMENT ON COLUMN analytics.tenant_engagement_by_hour.score IS 'Mean score over all ticks, 0..1.';
COMMENT ON COLUMN analytics.tenant_engagement_by_hour.score_min IS 'Lowest score, 0..1.';
COMMENT ON COLUMN analytics.tenant_engagement_by_hour.score_max IS 'Highest score, 0..1.';
COMMENT ON COLUMN analytics.tenant_engagement_by_hour.connected_users IS 'Users present at once, all sessions together: mean over the hour, from 0. Too low where not every tick is emitted.';
COMMENT ON COLUMN analytics.tenant_engagement_by_hour.active_users IS 'Users who acted in 60 s, all sessions together: mean over the hour, from 0. Too low where not every tick is emitted.';

-- With its owner's rights, because policies and horizons are nothing that analysts may read; it tells a time and no row.
CREATE OR REPLACE FUNCTION analytics.kept_since(source text) RETURNS timestamptz
LANGUAGE plpgsql STABLE SECURITY DEFINER
AS $$
DECLARE
    since timestamptz;
    age interval;
BEGIN
    SELECT greatest(horizon.raw_since, known.until_when) INTO since
    FROM rollup_horizon AS horizon
    LEFT JOIN deleted_before AS known ON known.source = kept_since.source;
    -- A policy drops a chunk when its newest row is older than the policy says. Which chunks it has come to makes no
    -- difference here: what may go at any moment is not counted on.
    IF to_regclass('timescaledb_information.jobs') IS NOT NULL THEN
        EXECUTE 'SELECT min((config ->> ''drop_after'')::interval) FROM timescaledb_information.jobs '
                'WHERE (hypertable_schema, hypertable_name) = (current_schema(), $1::name) AND config ? ''drop_after'''
            INTO age USING source;
    END IF;
    RETURN greatest(since, now() - age);
END
$$;

DO $$
BEGIN
    -- It must not find a table of the caller's.
    EXECUTE format('ALTER FUNCTION analytics.kept_since SET search_path = %I, pg_temp', current_schema());
END
$$;

COMMENT ON FUNCTION analytics.kept_since IS 'Since when all rows of a table are there: those before have been deleted by age, or may be at any moment. -infinity where nothing is deleted.';

-- A count is null where the session began before the rows that it counts are kept.
CREATE OR REPLACE VIEW analytics.session_facts WITH (security_barrier) AS
SELECT session.tenant_id, session.session_id, session.session_start, session.ts AS ended_at, session.ended_by,
       session.duration_ms / 1000.0::float8 AS duration_s, session.users, session.peak_connected, session.events,
       session.chat_messages, session.reactions, session.votes, session.score_mean, session.score_peak,
       raised.anomalies, felt.emotions, ledger.interventions, ledger.fired, ledger.suppressed, effect.conversions,
       chat.answers, chat.handed_over
FROM sessions AS session
LEFT JOIN LATERAL (
    SELECT count(*) AS anomalies FROM anomalies AS own
    WHERE own.tenant_id = session.tenant_id AND own.session_id = session.session_id AND own.state = 'raised'
        AND own.ts BETWEEN session.session_start AND session.ts
    HAVING session.session_start >= (SELECT analytics.kept_since('anomalies'))
) AS raised ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS emotions FROM emotions AS own
    WHERE own.tenant_id = session.tenant_id AND own.session_id = session.session_id
        AND own.ts BETWEEN session.session_start AND session.ts
    HAVING session.session_start >= (SELECT analytics.kept_since('emotions'))
) AS felt ON true
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE own.revision = 0) AS interventions,
           count(*) FILTER (WHERE own.status = 'fired') AS fired,
           count(*) FILTER (WHERE own.status = 'suppressed') AS suppressed
    FROM interventions AS own
    WHERE own.tenant_id = session.tenant_id AND own.session_id = session.session_id
        AND own.ts BETWEEN session.session_start AND session.ts
    HAVING session.session_start >= (SELECT analytics.kept_since('interventions'))
) AS ledger ON true
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE own.converted) AS conversions FROM agent_performance AS own
    WHERE own.tenant_id = session.tenant_id AND own.session_id = session.session_id
        AND own.ts BETWEEN session.session_start AND session.ts + interval '65 seconds'
    HAVING session.session_start >= (SELECT analytics.kept_since('agent_performance'))
) AS effect ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS answers, count(*) FILTER (WHERE own.letter IN ('D', 'E')) AS handed_over
    FROM orchestrator_decisions AS own
    WHERE own.tenant_id = session.tenant_id AND own.session_id = session.session_id
        AND own.ts BETWEEN session.session_start AND session.ts
    HAVING session.session_start >= (SELECT analytics.kept_since('orchestrator_decisions'))
) AS chat ON true
WHERE session.tenant_id = ANY ((SELECT analytics.tenants())::text[]);

COMMENT ON VIEW analytics.session_facts IS 'One row for each session that ended, with what happened in it. What is counted from rows that are kept for a shorter time is null once these may have gone: see analytics.kept_since.';
COMMENT ON COLUMN analytics.session_facts.tenant_id IS 'Whose session it was.';
COMMENT ON COLUMN analytics.session_facts.session_id IS 'The session; unique within its tenant, but may be used again.';
COMMENT ON COLUMN analytics.session_facts.session_start IS 'Its first event.';
COMMENT ON COLUMN analytics.session_facts.ended_at IS 'When it ended, event time.';
COMMENT ON COLUMN analytics.session_facts.ended_by IS 'idle (30 minutes without an event) or ended (by its own event).';
COMMENT ON COLUMN analytics.session_facts.duration_s IS 'How long it lasted, seconds from 0.';
COMMENT ON COLUMN analytics.session_facts.users IS 'Distinct users, count from 0.';
COMMENT ON COLUMN analytics.session_facts.peak_connected IS 'The most users present at a tick, count from 0.';
COMMENT ON COLUMN analytics.session_facts.events IS 'Events that counted, count from 0.';
COMMENT ON COLUMN analytics.session_facts.chat_messages IS 'Chat messages, count from 0.';
COMMENT ON COLUMN analytics.session_facts.reactions IS 'Reactions, count from 0.';
COMMENT ON COLUMN analytics.session_facts.votes IS 'Votes in polls, count from 0.';
COMMENT ON COLUMN analytics.session_facts.score_mean IS 'Mean score over its ticks, 0..1; null without a tick.';
COMMENT ON COLUMN analytics.session_facts.score_peak IS 'Highest score, 0..1; null without a tick.';
COMMENT ON COLUMN analytics.session_facts.anomalies IS 'Reports of anomalies, repeated ones too, count from 0; null when unknown.';
COMMENT ON COLUMN analytics.session_facts.emotions IS 'Emotions diagnosed, count from 0; null when unknown.';
COMMENT ON COLUMN analytics.session_facts.interventions IS 'Interventions that were considered, count from 0; null when unknown.';
COMMENT ON COLUMN analytics.session_facts.fired IS 'Those that were fired, count from 0; null when unknown.';
COMMENT ON COLUMN analytics.session_facts.suppressed IS 'Those that were suppressed, count from 0; null when unknown.';
COMMENT ON COLUMN analytics.session_facts.conversions IS 'Interventions, held-out ones too, whose recipient converted, count from 0; null when unknown.';
COMMENT ON COLUMN analytics.session_facts.answers IS 'Chat answers, count from 0; null when unknown.';
COMMENT ON COLUMN analytics.session_facts.handed_over IS 'Those of them that called a person (paths D and E), count from 0; null when unknown.';

-- An episode begins with a report before which the same type was not open, and ends with the first that resolves it.
CREATE OR REPLACE VIEW analytics.anomaly_episodes WITH (security_barrier) AS
SELECT first.tenant_id, first.session_id, first.session_start, first.anomaly_type, first.ts AS raised_at,
       resolved.ts AS resolved_at, extract(epoch FROM resolved.ts - first.ts)::float8 AS duration_s,
       within.severity, within.reports, first.expected, within.lowest, within.depth, within.score
FROM anomalies AS first
LEFT JOIN LATERAL (
    SELECT own.state FROM anomalies AS own
    WHERE own.tenant_id = first.tenant_id AND own.session_id = first.session_id
        AND own.session_start = first.session_start AND own.anomaly_type = first.anomaly_type
        AND own.ts >= first.session_start AND own.ts < first.ts
    ORDER BY own.ts DESC LIMIT 1
) AS before ON true
LEFT JOIN LATERAL (
    SELECT own.ts FROM anomalies AS own
    WHERE own.tenant_id = first.tenant_id AND own.session_id = first.session_id
        AND own.session_start = first.session_start AND own.anomaly_type = first.anomaly_type
        AND own.ts > first.ts AND own.state = 'resolved'
    ORDER BY own.ts LIMIT 1
) AS resolved ON true
CROSS JOIN LATERAL (
    SELECT min(own.severity) AS severity, count(*) AS reports, min(own.current) AS lowest, max(own.deviation) AS depth,
           max(own.score) AS score
    FROM anomalies AS own
    WHERE own.tenant_id = first.tenant_id AND own.session_id = first.session_id
        AND own.session_start = first.session_start AND own.anomaly_type = first.anomaly_type
        AND own.state = 'raised' AND own.ts >= first.ts AND own.ts < coalesce(resolved.ts, 'infinity')
) AS within
WHERE first.state = 'raised' AND before.state IS DISTINCT FROM 'raised'
    AND first.tenant_id = ANY ((SELECT analytics.tenants())::text[]);

COMMENT ON VIEW analytics.anomaly_episodes IS 'Anomalies from raised to resolved: one row for each, however often it was told meanwhile.';
COMMENT ON COLUMN analytics.anomaly_episodes.tenant_id IS 'Whose session it is.';
COMMENT ON COLUMN analytics.anomaly_episodes.session_id IS 'The session; unique within its tenant.';
COMMENT ON COLUMN analytics.anomaly_episodes.session_start IS 'The session''s first event.';
COMMENT ON COLUMN analytics.anomaly_episodes.anomaly_type IS 'MASS_EXIT, LOW_ENGAGEMENT, SUDDEN_DROP or GRADUAL_DECLINE.';
COMMENT ON COLUMN analytics.anomaly_episodes.raised_at IS 'The tick at which it was first raised, event time.';
COMMENT ON COLUMN analytics.anomaly_episodes.resolved_at IS 'The tick at which it was resolved; null while it is open.';
COMMENT ON COLUMN analytics.anomaly_episodes.duration_s IS 'From raised to resolved, seconds from 5; null while it is open.';
COMMENT ON COLUMN analytics.anomaly_episodes.severity IS 'The worst: CRITICAL if any report said so, else WARNING.';
COMMENT ON COLUMN analytics.anomaly_episodes.reports IS 'How often it was told, count from 1.';
COMMENT ON COLUMN analytics.anomaly_episodes.expected IS 'What was expected when it was raised: the score without its poll term, or for MASS_EXIT what the detector compared.';
COMMENT ON COLUMN analytics.anomaly_episodes.lowest IS 'The lowest value told, in the unit of expected.';
COMMENT ON COLUMN analytics.anomaly_episodes.depth IS 'The greatest deviation from what was expected, in the unit of expected.';
COMMENT ON COLUMN analytics.anomaly_episodes.score IS 'The highest anomaly score, 0..1.';
