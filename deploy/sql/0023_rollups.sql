-- What is kept when rows have gone: sums by minute, hour and day, from which means can be had again.
--
-- Here they are ordinary tables that `attune db refresh` brings up to date. Where TimescaleDB is,
-- repeat_hypertables.sql puts continuous aggregates of the same names and columns in their place.

CREATE TABLE engagement_minutes (
    tenant_id         text COLLATE "C" NOT NULL,
    session_id        text COLLATE "C" NOT NULL,
    session_start     timestamptz NOT NULL,
    minute            timestamptz NOT NULL,
    ticks             bigint NOT NULL,
    score_sum         double precision NOT NULL,
    score_min         double precision NOT NULL,
    score_max         double precision NOT NULL,
    chat_sum          bigint NOT NULL,
    reactions_sum     bigint NOT NULL,
    connected_sum     bigint NOT NULL,
    connected_max     bigint NOT NULL,
    active_sum        bigint NOT NULL,
    participation_sum double precision NOT NULL,
    leave_sum         double precision NOT NULL,
    PRIMARY KEY (tenant_id, minute, session_id, session_start)
);

CREATE INDEX idx_engagement_minutes_session ON engagement_minutes (tenant_id, session_id, minute);

COMMENT ON TABLE engagement_minutes IS 'One row for each session and minute: sums over the ticks in it.';
COMMENT ON COLUMN engagement_minutes.tenant_id IS 'Whose session it is.';
COMMENT ON COLUMN engagement_minutes.session_id IS 'The session; unique within its tenant.';
COMMENT ON COLUMN engagement_minutes.session_start IS 'The session''s first event; tells apart two sessions of the same session_id.';
COMMENT ON COLUMN engagement_minutes.minute IS 'The minute''s beginning, event time; its ticks have minute <= ts < minute + 1 min.';
COMMENT ON COLUMN engagement_minutes.ticks IS 'Ticks, count from 1; 12 in a full minute.';
COMMENT ON COLUMN engagement_minutes.score_sum IS 'Sum of the scores, 0..ticks.';
COMMENT ON COLUMN engagement_minutes.score_min IS 'Lowest score, 0..1.';
COMMENT ON COLUMN engagement_minutes.score_max IS 'Highest score, 0..1.';
COMMENT ON COLUMN engagement_minutes.chat_sum IS 'Sum of chat_per_min over the ticks, from 0.';
COMMENT ON COLUMN engagement_minutes.reactions_sum IS 'Sum of reactions_per_min over the ticks, from 0.';
COMMENT ON COLUMN engagement_minutes.connected_sum IS 'Sum of connected_users over the ticks, from 0.';
COMMENT ON COLUMN engagement_minutes.connected_max IS 'The most users present at a tick, count from 0.';
COMMENT ON COLUMN engagement_minutes.active_sum IS 'Sum of active_users over the ticks, from 0.';
COMMENT ON COLUMN engagement_minutes.participation_sum IS 'Sum of poll_participation over the ticks, 0..ticks.';
COMMENT ON COLUMN engagement_minutes.leave_sum IS 'Sum of leave_rate over the ticks, 0..ticks.';

CREATE TABLE engagement_hours (
    tenant_id         text COLLATE "C" NOT NULL,
    session_id        text COLLATE "C" NOT NULL,
    session_start     timestamptz NOT NULL,
    hour              timestamptz NOT NULL,
    ticks             bigint NOT NULL,
    score_sum         double precision NOT NULL,
    score_min         double precision NOT NULL,
    score_max         double precision NOT NULL,
    chat_sum          bigint NOT NULL,
    reactions_sum     bigint NOT NULL,
    connected_sum     bigint NOT NULL,
    connected_max     bigint NOT NULL,
    active_sum        bigint NOT NULL,
    participation_sum double precision NOT NULL,
    leave_sum         double precision NOT NULL,
    PRIMARY KEY (tenant_id, hour, session_id, session_start)
);

COMMENT ON TABLE engagement_hours IS 'One row for each session and hour: sums over the ticks in it.';
COMMENT ON COLUMN engagement_hours.tenant_id IS 'Whose session it is.';
COMMENT ON COLUMN engagement_hours.session_id IS 'The session; unique within its tenant.';
COMMENT ON COLUMN engagement_hours.session_start IS 'The session''s first event; tells apart two sessions of the same session_id.';
COMMENT ON COLUMN engagement_hours.hour IS 'The hour''s beginning, UTC, event time.';
COMMENT ON COLUMN engagement_hours.ticks IS 'Ticks, count from 1; 720 in a full hour.';
COMMENT ON COLUMN engagement_hours.score_sum IS 'Sum of the scores, 0..ticks.';
COMMENT ON COLUMN engagement_hours.score_min IS 'Lowest score, 0..1.';
COMMENT ON COLUMN engagement_hours.score_max IS 'Highest score, 0..1.';
COMMENT ON COLUMN engagement_hours.chat_sum IS 'Sum of chat_per_min over the ticks, from 0.';
COMMENT ON COLUMN engagement_hours.reactions_sum IS 'Sum of reactions_per_min over the ticks, from 0.';
COMMENT ON COLUMN engagement_hours.connected_sum IS 'Sum of connected_users over the ticks, from 0.';
COMMENT ON COLUMN engagement_hours.connected_max IS 'The most users present at a tick, count from 0.';
COMMENT ON COLUMN engagement_hours.active_sum IS 'Sum of active_users over the ticks, from 0.';
COMMENT ON COLUMN engagement_hours.participation_sum IS 'Sum of poll_participation over the ticks, 0..ticks.';
COMMENT ON COLUMN engagement_hours.leave_sum IS 'Sum of leave_rate over the ticks, 0..ticks.';

CREATE TABLE emotion_hours (
    tenant_id      text COLLATE "C" NOT NULL,
    hour           timestamptz NOT NULL,
    emotion        text COLLATE "C" NOT NULL,
    emotions       bigint NOT NULL,
    confidence_sum double precision NOT NULL,
    PRIMARY KEY (tenant_id, hour, emotion)
);

COMMENT ON TABLE emotion_hours IS 'One row for each tenant, hour and emotion that was seen in it.';
COMMENT ON COLUMN emotion_hours.tenant_id IS 'The tenant.';
COMMENT ON COLUMN emotion_hours.hour IS 'The hour''s beginning, UTC, event time.';
COMMENT ON COLUMN emotion_hours.emotion IS 'Its name, such as frustration or price_shock.';
COMMENT ON COLUMN emotion_hours.emotions IS 'How often it was diagnosed, count from 1.';
COMMENT ON COLUMN emotion_hours.confidence_sum IS 'Sum of the confidences, 0..emotions.';

CREATE TABLE intervention_hours (
    tenant_id      text COLLATE "C" NOT NULL,
    hour           timestamptz NOT NULL,
    intervention   text COLLATE "C" NOT NULL,
    trigger_kind   text COLLATE "C" NOT NULL,
    trigger_name   text COLLATE "C" NOT NULL,
    status         text COLLATE "C" NOT NULL,
    reason         text COLLATE "C" NOT NULL,
    changes        bigint NOT NULL,
    decisions      bigint NOT NULL,
    confidence_sum double precision NOT NULL,
    PRIMARY KEY (tenant_id, hour, intervention, trigger_kind, trigger_name, status, reason)
);

COMMENT ON TABLE intervention_hours IS 'The ledger by hour: how often an intervention came to a status, and why.';
COMMENT ON COLUMN intervention_hours.tenant_id IS 'The tenant.';
COMMENT ON COLUMN intervention_hours.hour IS 'The hour''s beginning, UTC, event time.';
COMMENT ON COLUMN intervention_hours.intervention IS 'What is done, such as discount_modal or poll.';
COMMENT ON COLUMN intervention_hours.trigger_kind IS 'emotion or anomaly.';
COMMENT ON COLUMN intervention_hours.trigger_name IS 'The emotion or the type of anomaly that it answers to.';
COMMENT ON COLUMN intervention_hours.status IS 'fired, suppressed, pending, refused or expired.';
COMMENT ON COLUMN intervention_hours.reason IS 'Why not; empty when fired.';
COMMENT ON COLUMN intervention_hours.changes IS 'Rows of the ledger: how often this status was reached, count from 1.';
COMMENT ON COLUMN intervention_hours.decisions IS 'Those of them that were the first of their intervention (revision 0), count from 0.';
COMMENT ON COLUMN intervention_hours.confidence_sum IS 'Sum of the triggers'' confidences, 0..changes.';

CREATE TABLE decision_hours (
    tenant_id      text COLLATE "C" NOT NULL,
    hour           timestamptz NOT NULL,
    agent_id       text COLLATE "C" NOT NULL,
    path           text COLLATE "C" NOT NULL,
    letter         text COLLATE "C" NOT NULL,
    action         text COLLATE "C" NOT NULL,
    level          text COLLATE "C" NOT NULL,
    answers        bigint NOT NULL,
    confidence_sum double precision NOT NULL,
    PRIMARY KEY (tenant_id, hour, agent_id, path, letter, action, level)
);

COMMENT ON TABLE decision_hours IS 'Chat answers by hour: how many took which path.';
COMMENT ON COLUMN decision_hours.tenant_id IS 'The tenant.';
COMMENT ON COLUMN decision_hours.hour IS 'The hour''s beginning, UTC, event time.';
COMMENT ON COLUMN decision_hours.agent_id IS 'The agent (bot) that answered.';
COMMENT ON COLUMN decision_hours.path IS 'auto_answer, clarify, canonical, escalate, queue or refuse.';
COMMENT ON COLUMN decision_hours.letter IS 'The path''s letter, A to F in that order.';
COMMENT ON COLUMN decision_hours.action IS 'immediate_escalation, suggest_review, send_with_disclaimer or continue.';
COMMENT ON COLUMN decision_hours.level IS 'HIGH (from 0.8), MEDIUM (0.6), LOW (0.4) or VERY_LOW.';
COMMENT ON COLUMN decision_hours.answers IS 'Answers, count from 1.';
COMMENT ON COLUMN decision_hours.confidence_sum IS 'Sum of the confidences, 0..answers.';

CREATE TABLE effect_days (
    tenant_id      text COLLATE "C" NOT NULL,
    day            timestamptz NOT NULL,
    intervention   text COLLATE "C" NOT NULL,
    trigger_kind   text COLLATE "C" NOT NULL,
    trigger_name   text COLLATE "C" NOT NULL,
    holdout        boolean NOT NULL,
    effects        bigint NOT NULL,
    conversions    bigint NOT NULL,
    reward_sum     double precision NOT NULL,
    reward_squares double precision NOT NULL,
    change_sum     double precision NOT NULL,
    PRIMARY KEY (tenant_id, day, intervention, trigger_kind, trigger_name, holdout)
);

COMMENT ON TABLE effect_days IS 'Effects of interventions by day, those held out beside them.';
COMMENT ON COLUMN effect_days.tenant_id IS 'The tenant.';
COMMENT ON COLUMN effect_days.day IS 'The day''s beginning, UTC, event time of the measurement.';
COMMENT ON COLUMN effect_days.intervention IS 'What was done, such as discount_modal or poll.';
COMMENT ON COLUMN effect_days.trigger_kind IS 'emotion or anomaly.';
COMMENT ON COLUMN effect_days.trigger_name IS 'The emotion or the type of anomaly that it answered to.';
COMMENT ON COLUMN effect_days.holdout IS 'True for recipients who were held out, so that nothing was shown.';
COMMENT ON COLUMN effect_days.effects IS 'Interventions whose effect was measured, count from 1.';
COMMENT ON COLUMN effect_days.conversions IS 'Those of them whose recipient converted, count from 0.';
COMMENT ON COLUMN effect_days.reward_sum IS 'Sum of the rewards, 0..effects.';
COMMENT ON COLUMN effect_days.reward_squares IS 'Sum of the squared rewards, 0..effects: for their variance.';
COMMENT ON COLUMN effect_days.change_sum IS 'Sum of score_after - score_before, -effects..effects.';

-- Which hours of which tenants have changed since they were summed. The triggers write, `attune db refresh` takes.

CREATE TABLE rollup_changes (
    source    text COLLATE "C" NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    hour      timestamptz NOT NULL,
    writer    integer NOT NULL,
    PRIMARY KEY (source, tenant_id, hour, writer)
);

COMMENT ON TABLE rollup_changes IS 'Hours that have changed since they were summed.';
COMMENT ON COLUMN rollup_changes.source IS 'The table that changed.';
COMMENT ON COLUMN rollup_changes.tenant_id IS 'The tenant whose rows changed.';
COMMENT ON COLUMN rollup_changes.hour IS 'The hour''s beginning, UTC, event time.';
COMMENT ON COLUMN rollup_changes.writer IS 'The server process that wrote: each has a row of its own, so that writers never wait for each other.';

CREATE TABLE rollup_claims (
    source    text COLLATE "C" NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    hour      timestamptz NOT NULL,
    PRIMARY KEY (source, tenant_id, hour)
);

COMMENT ON TABLE rollup_claims IS 'Changes that a refresh has taken and not summed yet; what a broken one left is done by the next.';
COMMENT ON COLUMN rollup_claims.source IS 'The table that changed.';
COMMENT ON COLUMN rollup_claims.tenant_id IS 'The tenant whose rows changed.';
COMMENT ON COLUMN rollup_claims.hour IS 'The hour''s beginning, UTC, event time.';

CREATE TABLE rollup_horizon (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    raw_since timestamptz NOT NULL
);

INSERT INTO rollup_horizon (raw_since) VALUES ('-infinity');

COMMENT ON TABLE rollup_horizon IS 'Since when rows are there to be summed: one row.';
COMMENT ON COLUMN rollup_horizon.only_row IS 'Always true: there is one row.';
COMMENT ON COLUMN rollup_horizon.raw_since IS 'Rows before it have been deleted by age; sums of before it stay as they are.';

CREATE FUNCTION attune_note_changes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
AS $$
BEGIN
    IF current_setting('attune.expiring', true) = 'on' THEN
        RETURN NULL; -- what goes by age stays in the sums
    END IF;
    -- The update locks this writer's row until its transaction ends: a refresh that takes the row waits for what the
    -- writer is about to commit.
    INSERT INTO rollup_changes (source, tenant_id, hour, writer)
    SELECT DISTINCT TG_TABLE_NAME, changed.tenant_id,
           date_bin('1 hour', changed.ts, '2000-01-01 00:00:00+00'), pg_backend_pid()
    FROM changed
    ORDER BY 2, 3
    ON CONFLICT (source, tenant_id, hour, writer) DO UPDATE SET writer = excluded.writer;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION attune_note_changes IS 'Note which hours a statement has changed.';

DO $$
DECLARE
    source text;
    act text;
    transition text;
    hypertable boolean := false;
BEGIN
    -- It runs with its owner's rights, so it must not find a table of the caller's.
    EXECUTE format('ALTER FUNCTION attune_note_changes() SET search_path = %I, pg_temp', current_schema());
    FOREACH source IN ARRAY ARRAY[
        'engagement_metrics', 'emotions', 'interventions', 'orchestrator_decisions', 'agent_performance'
    ]
    LOOP
        -- Hypertables get continuous aggregates instead.
        IF to_regclass('timescaledb_information.hypertables') IS NOT NULL THEN
            EXECUTE 'SELECT EXISTS (SELECT FROM timescaledb_information.hypertables '
                    'WHERE hypertable_schema = current_schema() AND hypertable_name = $1)'
                INTO hypertable USING source;
        END IF;
        CONTINUE WHEN hypertable;
        FOR act, transition IN VALUES ('INSERT', 'NEW'), ('UPDATE', 'NEW'), ('DELETE', 'OLD')
        LOOP
            EXECUTE format(
                'CREATE TRIGGER %I AFTER %s ON %I REFERENCING %s TABLE AS changed '
                'FOR EACH STATEMENT EXECUTE FUNCTION attune_note_changes()',
                'attune_rollup_' || lower(act), act, source, transition
            );
        END LOOP;
        EXECUTE format(
            'INSERT INTO rollup_changes SELECT DISTINCT %L, tenant_id, '
            'date_bin(''1 hour'', ts, ''2000-01-01 00:00:00+00''), 0 FROM %I',
            source, source
        );
    END LOOP;
END
$$;
