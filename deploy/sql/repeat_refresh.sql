-- Runs at every migrate: how `attune db refresh` and `attune db retain` work where rollups are ordinary tables. Each
-- call is a small transaction of its own, so that both may be broken off and run again.

-- Take the changes one by one, each in a transaction of its own: whoever holds several locks could wait in a circle
-- with a writer, who holds several, too. A change's row is locked until its writer has committed, so that what it
-- tells of is there to be read.
CREATE OR REPLACE PROCEDURE attune_claim_changes()
LANGUAGE plpgsql
AS $$
DECLARE
    known rollup_changes;
BEGIN
    FOR known IN SELECT * FROM rollup_changes
    LOOP
        WITH taken AS (
            DELETE FROM rollup_changes AS change
            WHERE (change.source, change.tenant_id, change.hour, change.writer)
                = (known.source, known.tenant_id, known.hour, known.writer)
            RETURNING change.source, change.tenant_id, change.hour
        )
        INSERT INTO rollup_claims SELECT * FROM taken ON CONFLICT DO NOTHING;
        COMMIT;
    END LOOP;
END
$$;

-- Sum some of the hours that were claimed, and return how many are left. Hours of which rows have been deleted by age
-- are dropped: their sums know more than the rows that are left, or that came late.
CREATE OR REPLACE FUNCTION attune_refresh_some(most integer) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    origin CONSTANT timestamptz := '2000-01-01 00:00:00+00';
BEGIN
    CREATE TEMPORARY TABLE IF NOT EXISTS attune_todo (
        source text COLLATE "C", tenant_id text COLLATE "C", hour timestamptz
    ) ON COMMIT DELETE ROWS;
    WITH next AS (SELECT * FROM rollup_claims ORDER BY source, tenant_id, hour LIMIT most),
    taken AS (
        DELETE FROM rollup_claims AS claim USING next
        WHERE (claim.source, claim.tenant_id, claim.hour) = (next.source, next.tenant_id, next.hour)
        RETURNING claim.source, claim.tenant_id, claim.hour
    )
    INSERT INTO attune_todo
    SELECT taken.* FROM taken, rollup_horizon AS horizon WHERE taken.hour >= horizon.raw_since;
    ANALYZE attune_todo; -- else the planner takes it for large and reads whole tables

    DELETE FROM engagement_minutes AS sums USING attune_todo AS todo
    WHERE todo.source = 'engagement_metrics' AND sums.tenant_id = todo.tenant_id
        AND sums.minute >= todo.hour AND sums.minute < todo.hour + interval '1 hour';
    INSERT INTO engagement_minutes
    SELECT rows.tenant_id, rows.session_id, rows.session_start, date_bin('1 minute', rows.ts, origin), count(*),
           sum(rows.score), min(rows.score), max(rows.score), sum(rows.chat_per_min), sum(rows.reactions_per_min),
           sum(rows.connected_users), max(rows.connected_users), sum(rows.active_users),
           sum(rows.poll_participation), sum(rows.leave_rate)
    FROM attune_todo AS todo
    JOIN engagement_metrics AS rows
        ON rows.tenant_id = todo.tenant_id AND rows.ts >= todo.hour AND rows.ts < todo.hour + interval '1 hour'
    WHERE todo.source = 'engagement_metrics'
    GROUP BY 1, 2, 3, 4;

    DELETE FROM engagement_hours AS sums USING attune_todo AS todo
    WHERE todo.source = 'engagement_metrics' AND sums.tenant_id = todo.tenant_id AND sums.hour = todo.hour;
    INSERT INTO engagement_hours
    SELECT sums.tenant_id, sums.session_id, sums.session_start, todo.hour, sum(sums.ticks), sum(sums.score_sum),
           min(sums.score_min), max(sums.score_max), sum(sums.chat_sum), sum(sums.reactions_sum),
           sum(sums.connected_sum), max(sums.connected_max), sum(sums.active_sum), sum(sums.participation_sum),
           sum(sums.leave_sum)
    FROM attune_todo AS todo
    JOIN engagement_minutes AS sums
        ON sums.tenant_id = todo.tenant_id AND sums.minute >= todo.hour AND sums.minute < todo.hour + interval '1 hour'
    WHERE todo.source = 'engagement_metrics'
    GROUP BY 1, 2, 3, 4;

    DELETE FROM emotion_hours AS sums USING attune_todo AS todo
    WHERE todo.source = 'emotions' AND sums.tenant_id = todo.tenant_id AND sums.hour = todo.hour;
    INSERT INTO emotion_hours
    SELECT rows.tenant_id, todo.hour, rows.emotion, count(*), sum(rows.confidence)
    FROM attune_todo AS todo
    JOIN emotions AS rows
        ON rows.tenant_id = todo.tenant_id AND rows.ts >= todo.hour AND rows.ts < todo.hour + interval '1 hour'
    WHERE todo.source = 'emotions'
    GROUP BY 1, 2, 3;

    DELETE FROM intervention_hours AS sums USING attune_todo AS todo
    WHERE todo.source = 'interventions' AND sums.tenant_id = todo.tenant_id AND sums.hour = todo.hour;
    INSERT INTO intervention_hours
    SELECT rows.tenant_id, todo.hour, rows.intervention, rows.trigger_kind, rows.trigger_name, rows.status,
           coalesce(rows.reason, ''), count(*), count(*) FILTER (WHERE rows.revision = 0), sum(rows.confidence)
    FROM attune_todo AS todo
    JOIN interventions AS rows
        ON rows.tenant_id = todo.tenant_id AND rows.ts >= todo.hour AND rows.ts < todo.hour + interval '1 hour'
    WHERE todo.source = 'interventions'
    GROUP BY 1, 2, 3, 4, 5, 6, 7;

    DELETE FROM decision_hours AS sums USING attune_todo AS todo
    WHERE todo.source = 'orchestrator_decisions' AND sums.tenant_id = todo.tenant_id AND sums.hour = todo.hour;
    INSERT INTO decision_hours
    SELECT rows.tenant_id, todo.hour, rows.agent_id, rows.path, rows.letter, rows.action, rows.level, count(*),
           sum(rows.confidence)
    FROM attune_todo AS todo
    JOIN orchestrator_decisions AS rows
        ON rows.tenant_id = todo.tenant_id AND rows.ts >= todo.hour AND rows.ts < todo.hour + interval '1 hour'
    WHERE todo.source = 'orchestrator_decisions'
    GROUP BY 1, 2, 3, 4, 5, 6, 7;

    -- Hours of a day are one day's.
    WITH days AS (
        SELECT DISTINCT tenant_id, date_bin('1 day', hour, origin) AS day
        FROM attune_todo WHERE source = 'agent_performance'
    )
    DELETE FROM effect_days AS sums USING days WHERE (sums.tenant_id, sums.day) = (days.tenant_id, days.day);
    INSERT INTO effect_days
    SELECT rows.tenant_id, days.day, rows.intervention, rows.trigger_kind, rows.trigger_name, rows.holdout, count(*),
           count(*) FILTER (WHERE rows.converted), sum(rows.reward), sum(rows.reward * rows.reward),
           sum(rows.score_after - rows.score_before)
    FROM (
        SELECT DISTINCT tenant_id, date_bin('1 day', hour, origin) AS day
        FROM attune_todo WHERE source = 'agent_performance'
    ) AS days
    JOIN agent_performance AS rows
        ON rows.tenant_id = days.tenant_id AND rows.ts >= days.day AND rows.ts < days.day + interval '1 day'
    GROUP BY 1, 2, 3, 4, 5, 6;

    DELETE FROM attune_todo;
    RETURN (SELECT count(*) FROM rollup_claims);
END
$$;

-- Say since when rows are kept. It only moves forward.
CREATE OR REPLACE FUNCTION attune_move_horizon(since timestamptz) RETURNS void
LANGUAGE sql
AS $$
    UPDATE rollup_horizon SET raw_since = greatest(raw_since, since);
$$;

-- Delete a tenant's oldest day before a time from a table whose index on (tenant_id, ...) begins so, and return how
-- many rows went; null when there is nothing so old.
CREATE OR REPLACE FUNCTION attune_expire_some(name regclass, clock name, before timestamptz) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    tenant text;
    oldest timestamptz;
    gone bigint;
BEGIN
    PERFORM set_config('attune.expiring', 'on', true);
    EXECUTE format(
        $find$
        WITH RECURSIVE tenants AS (
            (SELECT tenant_id FROM %1$s ORDER BY tenant_id LIMIT 1)
            UNION ALL
            SELECT (SELECT next.tenant_id FROM %1$s AS next WHERE next.tenant_id > tenants.tenant_id ORDER BY 1 LIMIT 1)
            FROM tenants WHERE tenants.tenant_id IS NOT NULL
        )
        SELECT tenants.tenant_id, (SELECT min(%2$I) FROM %1$s AS own WHERE own.tenant_id = tenants.tenant_id)
        FROM tenants
        WHERE (SELECT min(%2$I) FROM %1$s AS own WHERE own.tenant_id = tenants.tenant_id) < $1
        LIMIT 1
        $find$,
        name, clock
    ) INTO tenant, oldest USING before;
    IF tenant IS NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format('DELETE FROM %1$s WHERE tenant_id = $1 AND %2$I >= $2 AND %2$I < least($3, $4)', name, clock)
        USING tenant, oldest, before, oldest + interval '1 day';
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;

REVOKE ALL ON PROCEDURE attune_claim_changes FROM PUBLIC;
REVOKE ALL ON FUNCTION attune_refresh_some, attune_move_horizon, attune_expire_some FROM PUBLIC;
