-- Runs at every migrate: where TimescaleDB (2.13 or newer) is installed, tables become hypertables, those that have
-- rows already with their rows, and rollups become continuous aggregates; elsewhere they stay ordinary tables and
-- nothing else changes.
--
-- dead_letters stays an ordinary table: its ts is whatever a sender wrote, and every far-off value would open a chunk.
--
-- Settings that come with the migrate, none of which is set where nobody said so: attune.raw_retention_days,
-- attune.rollup_retention_days, attune.columnstore_after_days; a number, or off. attune.delete_old = on lets a policy
-- delete what is there already; without it none is set, or made shorter, over chunks that it would delete.

DO $$
DECLARE
    version text := (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb');
    act text;
    wanted record;
BEGIN
    IF version IS NULL THEN
        RETURN;
    END IF;
    IF (string_to_array(split_part(version, '-', 1), '.')::int[])[1:2] < ARRAY[2, 13] THEN
        RAISE EXCEPTION 'TimescaleDB % is too old, 2.13 is needed', version
            USING HINT = 'Run ALTER EXTENSION timescaledb UPDATE, then migrate again.';
    END IF;
    IF current_setting('timescaledb.license') <> 'timescale' THEN
        RAISE NOTICE 'this TimescaleDB has no continuous aggregates (its licence is %): tables stay as they are',
            current_setting('timescaledb.license');
        RETURN;
    END IF;
    FOR wanted IN
        SELECT *
        FROM (
            VALUES
                ('engagement_metrics', interval '1 day'),
                ('anomalies', interval '7 days'),
                ('emotions', interval '1 day'),
                ('interventions', interval '7 days'),
                ('intervention_outcomes', interval '7 days'),
                ('agent_performance', interval '7 days'),
                ('orchestrator_decisions', interval '7 days'),
                ('handoffs', interval '30 days'),
                ('calibration', interval '30 days'),
                ('sessions', interval '30 days')
        ) AS tables (name, chunk)
        WHERE NOT EXISTS (
            SELECT
            FROM timescaledb_information.hypertables AS known
            WHERE known.hypertable_schema = current_schema() AND known.hypertable_name = tables.name
        )
    LOOP
        -- What these triggers note, continuous aggregates note by themselves.
        FOR act IN
            SELECT tgname FROM pg_trigger
            WHERE tgrelid = wanted.name::regclass AND tgname LIKE 'attune\_rollup\_%' AND NOT tgisinternal
        LOOP
            EXECUTE format('DROP TRIGGER %I ON %I', act, wanted.name);
        END LOOP;
        PERFORM create_hypertable(
            wanted.name::regclass,
            by_range('ts', wanted.chunk),
            create_default_indexes => false,
            if_not_exists => true,
            migrate_data => true
        );
        RAISE NOTICE 'table % is a hypertable now, with chunks of %', wanted.name, wanted.chunk;
    END LOOP;
END
$$;

-- The same names and columns as the tables of 0023. A table that was there goes, and with it the views over it, which
-- repeat_view_*.sql make again. The newest rows, not summed yet, are summed as they are asked for.
DO $$
DECLARE
    wanted record;
    part text;
    told text;
    comments jsonb;
BEGIN
    IF to_regclass('timescaledb_information.continuous_aggregates') IS NULL
        OR current_setting('timescaledb.license') <> 'timescale'
    THEN
        RETURN;
    END IF;
    SET LOCAL client_min_messages = 'warning'; -- which views go, and that an index is as good as made already
    FOR wanted IN
        SELECT *
        FROM (
            VALUES
                ('engagement_minutes', $sum$
                    SELECT tenant_id, session_id, session_start, time_bucket(interval '1 minute', ts) AS minute,
                           count(*) AS ticks, sum(score) AS score_sum, min(score) AS score_min,
                           max(score) AS score_max, sum(chat_per_min)::bigint AS chat_sum,
                           sum(reactions_per_min)::bigint AS reactions_sum,
                           sum(connected_users)::bigint AS connected_sum, max(connected_users) AS connected_max,
                           sum(active_users)::bigint AS active_sum, sum(poll_participation) AS participation_sum,
                           sum(leave_rate) AS leave_sum
                    FROM engagement_metrics
                    GROUP BY 1, 2, 3, 4
                $sum$),
                ('engagement_hours', $sum$
                    SELECT tenant_id, session_id, session_start, time_bucket(interval '1 hour', minute) AS hour,
                           sum(ticks)::bigint AS ticks, sum(score_sum) AS score_sum, min(score_min) AS score_min,
                           max(score_max) AS score_max, sum(chat_sum)::bigint AS chat_sum,
                           sum(reactions_sum)::bigint AS reactions_sum, sum(connected_sum)::bigint AS connected_sum,
                           max(connected_max) AS connected_max, sum(active_sum)::bigint AS active_sum,
                           sum(participation_sum) AS participation_sum, sum(leave_sum) AS leave_sum
                    FROM engagement_minutes
                    GROUP BY 1, 2, 3, 4
                $sum$),
                ('emotion_hours', $sum$
                    SELECT tenant_id, time_bucket(interval '1 hour', ts) AS hour, emotion, count(*) AS emotions,
                           sum(confidence) AS confidence_sum
                    FROM emotions
                    GROUP BY 1, 2, 3
                $sum$),
                ('intervention_hours', $sum$
                    SELECT tenant_id, time_bucket(interval '1 hour', ts) AS hour, intervention, trigger_kind,
                           trigger_name, status, coalesce(reason, '') AS reason, count(*) AS changes,
                           count(*) FILTER (WHERE revision = 0) AS decisions, sum(confidence) AS confidence_sum
                    FROM interventions
                    GROUP BY 1, 2, 3, 4, 5, 6, 7
                $sum$),
                ('decision_hours', $sum$
                    SELECT tenant_id, time_bucket(interval '1 hour', ts) AS hour, agent_id, path, letter, action, level,
                           count(*) AS answers, sum(confidence) AS confidence_sum
                    FROM orchestrator_decisions
                    GROUP BY 1, 2, 3, 4, 5, 6, 7
                $sum$),
                ('effect_days', $sum$
                    SELECT tenant_id, time_bucket(interval '1 day', ts) AS day, intervention, trigger_kind,
                           trigger_name, holdout, count(*) AS effects,
                           count(*) FILTER (WHERE converted) AS conversions, sum(reward) AS reward_sum,
                           sum(reward * reward) AS reward_squares, sum(score_after - score_before) AS change_sum
                    FROM agent_performance
                    GROUP BY 1, 2, 3, 4, 5, 6
                $sum$)
        ) AS rollups (name, query)
        WHERE NOT EXISTS (
            SELECT
            FROM timescaledb_information.continuous_aggregates AS known
            WHERE known.view_schema = current_schema() AND known.view_name = rollups.name
        )
    LOOP
        SELECT jsonb_object_agg(attname, col_description(attrelid, attnum))
            || jsonb_build_object('', obj_description(attrelid, 'pg_class'))
        INTO comments
        FROM pg_attribute
        WHERE attrelid = to_regclass(wanted.name) AND attnum > 0 AND NOT attisdropped
        GROUP BY attrelid;
        EXECUTE format('DROP TABLE IF EXISTS %I CASCADE', wanted.name);
        EXECUTE format(
            'CREATE MATERIALIZED VIEW %I WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS %s '
            'WITH NO DATA',
            wanted.name, wanted.query
        );
        FOR part, told IN SELECT * FROM jsonb_each_text(comments)
        LOOP
            IF part = '' THEN
                EXECUTE format('COMMENT ON VIEW %I IS %L', wanted.name, told);
            ELSE
                EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', wanted.name, part, told);
            END IF;
        END LOOP;
    END LOOP;
    DELETE FROM rollup_changes;
    DELETE FROM rollup_claims;
END
$$;

-- Policies, where the migrate says which. One that is there and says the same is left alone, with its schedule.
DO $$
DECLARE
    raw_days text := nullif(current_setting('attune.raw_retention_days', true), '');
    rollup_days text := nullif(current_setting('attune.rollup_retention_days', true), '');
    columnstore_days text := nullif(current_setting('attune.columnstore_after_days', true), '');
    deleting boolean := coalesce(nullif(current_setting('attune.delete_old', true), '')::boolean, false);
    wanted record;
    old record;
    held boolean := false;
    known interval;
    width interval;
BEGIN
    IF to_regclass('timescaledb_information.continuous_aggregates') IS NULL
        OR current_setting('timescaledb.license') <> 'timescale'
        OR coalesce(raw_days, rollup_days, columnstore_days) IS NULL
    THEN
        RETURN;
    END IF;
    SET LOCAL client_min_messages = 'notice';
    FOR wanted IN
        SELECT name, kind, nullif(days, 'off')::int * interval '1 day' AS age
        FROM (
            VALUES
                ('engagement_metrics', 'drop_after', raw_days), ('anomalies', 'drop_after', raw_days),
                ('emotions', 'drop_after', raw_days), ('interventions', 'drop_after', raw_days),
                ('intervention_outcomes', 'drop_after', raw_days), ('agent_performance', 'drop_after', raw_days),
                ('orchestrator_decisions', 'drop_after', raw_days), ('handoffs', 'drop_after', raw_days),
                ('calibration', 'drop_after', rollup_days), ('sessions', 'drop_after', rollup_days),
                ('engagement_minutes', 'drop_after', rollup_days), ('engagement_hours', 'drop_after', rollup_days),
                ('emotion_hours', 'drop_after', rollup_days), ('intervention_hours', 'drop_after', rollup_days),
                ('decision_hours', 'drop_after', rollup_days), ('effect_days', 'drop_after', rollup_days),
                ('engagement_metrics', 'compress_after', columnstore_days),
                ('emotions', 'compress_after', columnstore_days),
                ('orchestrator_decisions', 'compress_after', columnstore_days)
        ) AS policies (name, kind, days)
        WHERE days IS NOT NULL
    LOOP
        SELECT (job.config ->> wanted.kind)::interval INTO known
        FROM timescaledb_information.jobs AS job
        LEFT JOIN timescaledb_information.continuous_aggregates AS sums
            ON sums.materialization_hypertable_schema = job.hypertable_schema
            AND sums.materialization_hypertable_name = job.hypertable_name
        WHERE job.config ? wanted.kind
            AND (sums.view_schema, sums.view_name) IS NOT DISTINCT FROM (current_schema(), wanted.name::name)
            OR job.config ? wanted.kind
            AND (job.hypertable_schema, job.hypertable_name) = (current_schema(), wanted.name::name);
        CONTINUE WHEN known IS NOT DISTINCT FROM wanted.age;
        IF wanted.kind = 'drop_after' AND (known IS NULL OR wanted.age < known) THEN
            SELECT count(*) AS chunks, min(chunk.range_start)::date AS first, max(chunk.range_end)::date AS last,
                   count(*) || CASE count(*) WHEN 1 THEN ' chunk' ELSE ' chunks' END AS told,
                   CASE count(*) WHEN 1 THEN 'is' ELSE 'are' END AS are
            INTO old
            FROM timescaledb_information.chunks AS chunk
            LEFT JOIN timescaledb_information.continuous_aggregates AS sums
                ON sums.materialization_hypertable_schema = chunk.hypertable_schema
                AND sums.materialization_hypertable_name = chunk.hypertable_name
            WHERE chunk.range_end <= now() - wanted.age
                AND coalesce(sums.view_schema, chunk.hypertable_schema) = current_schema()
                AND coalesce(sums.view_name, chunk.hypertable_name) = wanted.name;
            IF old.chunks > 0 AND deleting THEN
                RAISE NOTICE '%: %, of % to %, % older than % and will be deleted within minutes',
                    wanted.name, old.told, old.first, old.last, old.are, wanted.age;
            ELSIF old.chunks > 0 THEN
                RAISE NOTICE '%: %, of % to %, % older than % and % kept: %', wanted.name, old.told, old.first, old.last,
                    old.are, wanted.age, old.are, CASE
                        WHEN known IS NULL THEN 'the table has no policy, nothing of it will be deleted'
                        ELSE format('its policy stays as it was, %s', known)
                    END;
                held := true;
                CONTINUE;
            END IF;
        END IF;
        -- What a policy has deleted it no longer tells when it is given more days, or taken away.
        IF wanted.kind = 'drop_after' AND (wanted.age IS NULL OR wanted.age > known) THEN
            INSERT INTO deleted_before AS told VALUES (wanted.name, now() - known)
            ON CONFLICT (source) DO UPDATE SET until_when = greatest(told.until_when, excluded.until_when);
        END IF;
        IF wanted.age IS NULL THEN
            RAISE NOTICE '%: the policy % % is removed: the setting is off', wanted.name, wanted.kind, known;
        END IF;
        SET LOCAL client_min_messages = 'error'; -- it warns that ids are many
        IF wanted.kind = 'drop_after' THEN
            PERFORM remove_retention_policy(wanted.name::regclass, if_exists => true);
            IF wanted.age IS NOT NULL THEN
                PERFORM add_retention_policy(wanted.name::regclass, drop_after => wanted.age);
            END IF;
        ELSE
            PERFORM remove_compression_policy(wanted.name::regclass, if_exists => true);
            IF wanted.age IS NOT NULL THEN
                EXECUTE format(
                    'ALTER TABLE %I SET (timescaledb.compress, '
                    'timescaledb.compress_segmentby = ''tenant_id, session_id'', '
                    'timescaledb.compress_orderby = ''ts DESC'')',
                    wanted.name
                );
                PERFORM add_compression_policy(wanted.name::regclass, compress_after => wanted.age);
            END IF;
        END IF;
        SET LOCAL client_min_messages = 'notice';
    END LOOP;
    IF held THEN
        RAISE NOTICE 'nothing is deleted from the tables above: either set the days they are to be kept, or off, '
            'or run attune db migrate --delete-old';
    END IF;
    IF raw_days IS NULL THEN
        RETURN;
    END IF;
    SET LOCAL client_min_messages = 'error';
    -- Sums are brought up to date as far back as rows are kept, by the policy that is there now, less a chunk's width:
    -- beyond that a refresh would find rows gone and take them for never having been.
    FOR wanted IN
        SELECT *
        FROM (
            VALUES
                ('engagement_metrics', interval '1 day', interval '1 minute', interval '1 minute', 'engagement_minutes'),
                ('engagement_metrics', interval '1 day', interval '1 hour', interval '10 minutes', 'engagement_hours'),
                ('emotions', interval '1 day', interval '1 hour', interval '10 minutes', 'emotion_hours'),
                ('interventions', interval '7 days', interval '1 hour', interval '10 minutes', 'intervention_hours'),
                ('orchestrator_decisions', interval '7 days', interval '1 hour', interval '10 minutes', 'decision_hours'),
                ('agent_performance', interval '7 days', interval '1 day', interval '1 hour', 'effect_days')
        ) AS refreshes (source, chunk, bucket, every, name)
    LOOP
        SELECT (job.config ->> 'drop_after')::interval - wanted.chunk INTO width
        FROM timescaledb_information.jobs AS job
        WHERE job.config ? 'drop_after'
            AND (job.hypertable_schema, job.hypertable_name) = (current_schema(), wanted.source::name);
        SELECT (job.config ->> 'start_offset')::interval INTO known
        FROM timescaledb_information.jobs AS job
        JOIN timescaledb_information.continuous_aggregates AS sums
            ON (sums.materialization_hypertable_schema, sums.materialization_hypertable_name)
            = (job.hypertable_schema, job.hypertable_name)
            OR (sums.view_schema, sums.view_name) = (job.hypertable_schema, job.hypertable_name)
        WHERE job.proc_name = 'policy_refresh_continuous_aggregate'
            AND (sums.view_schema, sums.view_name) = (current_schema(), wanted.name::name);
        IF NOT FOUND OR known IS DISTINCT FROM width THEN
            PERFORM remove_continuous_aggregate_policy(wanted.name::regclass, if_exists => true);
            PERFORM add_continuous_aggregate_policy(
                wanted.name::regclass,
                start_offset => width,
                end_offset => wanted.bucket,
                schedule_interval => wanted.every
            );
        END IF;
    END LOOP;
END
$$;
