-- Runs at every migrate: views for people about emotions, interventions and what they led to.

CREATE OR REPLACE VIEW analytics.emotions_by_hour WITH (security_barrier) AS
SELECT tenant_id, hour, emotion, emotions, confidence_sum / emotions AS mean_confidence
FROM emotion_hours
WHERE tenant_id = ANY ((SELECT analytics.tenants())::text[]);

COMMENT ON VIEW analytics.emotions_by_hour IS 'Emotions by hour.';
COMMENT ON COLUMN analytics.emotions_by_hour.tenant_id IS 'The tenant.';
COMMENT ON COLUMN analytics.emotions_by_hour.hour IS 'The hour''s beginning, UTC, event time.';
COMMENT ON COLUMN analytics.emotions_by_hour.emotion IS 'Its name, such as frustration or price_shock.';
COMMENT ON COLUMN analytics.emotions_by_hour.emotions IS 'How often it was diagnosed, count from 1.';
COMMENT ON COLUMN analytics.emotions_by_hour.mean_confidence IS 'Mean confidence, 0..1.';

CREATE OR REPLACE VIEW analytics.suppressed_by_reason WITH (security_barrier) AS
SELECT tenant_id, hour, intervention, reason, suppressed, decisions, suppressed::float8 / decisions AS share
FROM (
    SELECT tenant_id, hour, intervention, reason, status, sum(changes)::bigint AS suppressed,
           (sum(sum(decisions)) OVER (PARTITION BY tenant_id, hour, intervention))::bigint AS decisions
    FROM intervention_hours
    WHERE tenant_id = ANY ((SELECT analytics.tenants())::text[])
    GROUP BY tenant_id, hour, intervention, reason, status
) AS hours
WHERE status = 'suppressed';

COMMENT ON VIEW analytics.suppressed_by_reason IS 'Interventions that were suppressed, by hour and reason, beside all that were considered.';
COMMENT ON COLUMN analytics.suppressed_by_reason.tenant_id IS 'The tenant.';
COMMENT ON COLUMN analytics.suppressed_by_reason.hour IS 'The hour''s beginning, UTC, event time.';
COMMENT ON COLUMN analytics.suppressed_by_reason.intervention IS 'What was not done, such as discount_modal or poll.';
COMMENT ON COLUMN analytics.suppressed_by_reason.reason IS 'disabled, low_confidence, quiet_hours, cooldown, rate_limit, budget, outranked, holdout or pending_limit.';
COMMENT ON COLUMN analytics.suppressed_by_reason.suppressed IS 'How often it was suppressed for this reason, count from 1.';
COMMENT ON COLUMN analytics.suppressed_by_reason.decisions IS 'How often this intervention was considered in the hour, count from 1.';
COMMENT ON COLUMN analytics.suppressed_by_reason.share IS 'suppressed / decisions, 0..1.';

CREATE OR REPLACE VIEW analytics.journeys WITH (security_barrier) AS
SELECT emotion.tenant_id, emotion.session_id, emotion.user_id, emotion.ts AS felt_at, emotion.id AS emotion_id,
       emotion.emotion, emotion.rule, ledger.id AS intervention_id, ledger.intervention, ledger.status, ledger.reason,
       outcome.delivered_at, outcome.shown_at, outcome.clicked_at, outcome.dismissed_at, outcome.converted_at,
       outcome.failed_at, effect.reward, effect.holdout, effect.converted
FROM emotions AS emotion
LEFT JOIN LATERAL (
    SELECT DISTINCT ON (own.id) own.id, own.intervention, own.status, own.reason
    FROM interventions AS own
    WHERE own.trigger_id = emotion.id AND own.tenant_id = emotion.tenant_id
        AND own.ts >= emotion.ts AND own.ts < emotion.ts + interval '7 days'
    ORDER BY own.id, own.revision DESC
) AS ledger ON true
LEFT JOIN LATERAL (
    SELECT min(own.ts) FILTER (WHERE own.outcome = 'delivered') AS delivered_at,
           min(own.ts) FILTER (WHERE own.outcome = 'shown') AS shown_at,
           min(own.ts) FILTER (WHERE own.outcome = 'clicked') AS clicked_at,
           min(own.ts) FILTER (WHERE own.outcome = 'dismissed') AS dismissed_at,
           min(own.ts) FILTER (WHERE own.outcome = 'converted') AS converted_at,
           min(own.ts) FILTER (WHERE own.outcome = 'failed') AS failed_at
    FROM intervention_outcomes AS own
    WHERE own.intervention_id = ledger.id AND own.tenant_id = emotion.tenant_id
        AND own.ts >= emotion.ts AND own.ts < emotion.ts + interval '7 days'
) AS outcome ON true
LEFT JOIN LATERAL (
    SELECT own.reward, own.holdout, own.converted FROM agent_performance AS own
    WHERE own.intervention_id = ledger.id AND own.tenant_id = emotion.tenant_id
        AND own.ts >= emotion.ts AND own.ts < emotion.ts + interval '7 days'
    ORDER BY own.revision DESC LIMIT 1
) AS effect ON true
WHERE emotion.tenant_id = ANY ((SELECT analytics.tenants())::text[]);

COMMENT ON VIEW analytics.journeys IS 'From an emotion to its intervention to what became of it: one row for each emotion, and for each intervention where there are several.';
COMMENT ON COLUMN analytics.journeys.tenant_id IS 'Whose session it is.';
COMMENT ON COLUMN analytics.journeys.session_id IS 'The session; unique within its tenant.';
COMMENT ON COLUMN analytics.journeys.user_id IS 'Who showed the emotion.';
COMMENT ON COLUMN analytics.journeys.felt_at IS 'When the emotion was diagnosed, event time.';
COMMENT ON COLUMN analytics.journeys.emotion_id IS 'The id in emotions.';
COMMENT ON COLUMN analytics.journeys.emotion IS 'Its name, such as frustration or price_shock.';
COMMENT ON COLUMN analytics.journeys.rule IS 'The rule that found it.';
COMMENT ON COLUMN analytics.journeys.intervention_id IS 'The id in interventions; null if none was considered within 7 days.';
COMMENT ON COLUMN analytics.journeys.intervention IS 'What was, or was not, done; null if none was considered.';
COMMENT ON COLUMN analytics.journeys.status IS 'Its newest status: fired, suppressed, pending, refused or expired.';
COMMENT ON COLUMN analytics.journeys.reason IS 'Why not; null when fired.';
COMMENT ON COLUMN analytics.journeys.delivered_at IS 'When a client''s socket took it, event time; null if never within 7 days.';
COMMENT ON COLUMN analytics.journeys.shown_at IS 'When it was shown, event time; null if never within 7 days.';
COMMENT ON COLUMN analytics.journeys.clicked_at IS 'When it was clicked, event time; null if never within 7 days.';
COMMENT ON COLUMN analytics.journeys.dismissed_at IS 'When it was dismissed, event time; null if never within 7 days.';
COMMENT ON COLUMN analytics.journeys.converted_at IS 'When its recipient converted, event time; null if never within 7 days.';
COMMENT ON COLUMN analytics.journeys.failed_at IS 'When it failed, event time; null if never within 7 days.';
COMMENT ON COLUMN analytics.journeys.reward IS 'Its reward, 0..1; null if no effect was measured.';
COMMENT ON COLUMN analytics.journeys.holdout IS 'True if the recipient was held out; null if no effect was measured.';
COMMENT ON COLUMN analytics.journeys.converted IS 'True if the recipient converted; null if no effect was measured.';

-- The day is fixed before the rows are read, so that an index, or a chunk, answers for a day.
CREATE OR REPLACE VIEW analytics.funnel_by_day WITH (security_barrier) AS
SELECT mine.tenant_id, days.day::date AS day, stages.*
FROM unnest((SELECT analytics.tenants())::text[]) AS mine (tenant_id)
CROSS JOIN LATERAL (
    SELECT min(own.ts) AT TIME ZONE 'UTC' AS first, max(own.ts) AT TIME ZONE 'UTC' AS last
    FROM emotions AS own WHERE own.tenant_id = mine.tenant_id
) AS span
CROSS JOIN LATERAL generate_series(date_trunc('day', span.first), span.last, interval '1 day') AS days (day)
CROSS JOIN LATERAL (
    SELECT felt.emotion, count(*) AS emotions, count(ledger.status) AS considered,
           count(*) FILTER (WHERE ledger.status = 'suppressed' AND ledger.reason = 'holdout') AS held_out,
           count(*) FILTER (WHERE ledger.status = 'suppressed' AND ledger.reason <> 'holdout') AS suppressed,
           count(*) FILTER (WHERE ledger.status = 'fired') AS fired,
           count(*) FILTER (WHERE outcome.delivered) AS delivered, count(*) FILTER (WHERE outcome.shown) AS shown,
           count(*) FILTER (WHERE outcome.clicked) AS clicked, count(*) FILTER (WHERE outcome.dismissed) AS dismissed,
           count(*) FILTER (WHERE outcome.converted) AS converted, count(*) FILTER (WHERE outcome.failed) AS failed
    FROM emotions AS felt
    LEFT JOIN LATERAL (
        SELECT own.id, own.status, own.reason FROM interventions AS own
        WHERE own.trigger_id = felt.id AND own.tenant_id = felt.tenant_id
            AND own.ts >= felt.ts AND own.ts < felt.ts + interval '7 days'
        ORDER BY own.revision DESC LIMIT 1
    ) AS ledger ON true
    LEFT JOIN LATERAL (
        SELECT bool_or(own.outcome = 'delivered') AS delivered, bool_or(own.outcome = 'shown') AS shown,
               bool_or(own.outcome = 'clicked') AS clicked, bool_or(own.outcome = 'dismissed') AS dismissed,
               bool_or(own.outcome = 'converted') AS converted, bool_or(own.outcome = 'failed') AS failed
        FROM intervention_outcomes AS own
        WHERE own.intervention_id = ledger.id AND own.tenant_id = felt.tenant_id
            AND own.ts >= felt.ts AND own.ts < felt.ts + interval '7 days'
    ) AS outcome ON true
    WHERE felt.tenant_id = mine.tenant_id
        AND felt.ts >= days.day AT TIME ZONE 'UTC' AND felt.ts < (days.day + interval '1 day') AT TIME ZONE 'UTC'
    GROUP BY felt.emotion
) AS stages;

COMMENT ON VIEW analytics.funnel_by_day IS 'Emotions of a day, how many of them led to an intervention, and what became of these within 7 days.';
COMMENT ON COLUMN analytics.funnel_by_day.tenant_id IS 'The tenant.';
COMMENT ON COLUMN analytics.funnel_by_day.day IS 'The day of the emotions, UTC.';
COMMENT ON COLUMN analytics.funnel_by_day.emotion IS 'Its name, such as frustration or price_shock.';
COMMENT ON COLUMN analytics.funnel_by_day.emotions IS 'How often it was diagnosed, count from 1.';
COMMENT ON COLUMN analytics.funnel_by_day.considered IS 'Those to which an intervention was considered, count from 0.';
COMMENT ON COLUMN analytics.funnel_by_day.held_out IS 'Those suppressed because the recipient is held out, count from 0.';
COMMENT ON COLUMN analytics.funnel_by_day.suppressed IS 'Those suppressed for another reason, count from 0.';
COMMENT ON COLUMN analytics.funnel_by_day.fired IS 'Those that were fired, count from 0.';
COMMENT ON COLUMN analytics.funnel_by_day.delivered IS 'Those that a client''s socket took, count from 0.';
COMMENT ON COLUMN analytics.funnel_by_day.shown IS 'Those that were shown, count from 0.';
COMMENT ON COLUMN analytics.funnel_by_day.clicked IS 'Those that were clicked, count from 0.';
COMMENT ON COLUMN analytics.funnel_by_day.dismissed IS 'Those that were dismissed, count from 0.';
COMMENT ON COLUMN analytics.funnel_by_day.converted IS 'Those whose recipient converted, count from 0.';
COMMENT ON COLUMN analytics.funnel_by_day.failed IS 'Those that failed, count from 0.';

CREATE OR REPLACE VIEW analytics.effects_by_day WITH (security_barrier) AS
SELECT tenant_id, (day AT TIME ZONE 'UTC')::date AS day, intervention, trigger_kind, trigger_name, holdout, effects,
       conversions, conversions::float8 / effects AS conversion_rate, reward_sum / effects AS mean_reward,
       change_sum / effects AS mean_change, reward_sum, reward_squares
FROM effect_days
WHERE tenant_id = ANY ((SELECT analytics.tenants())::text[]);

COMMENT ON VIEW analytics.effects_by_day IS 'Effects by day, intervention and trigger; those held out beside them.';
COMMENT ON COLUMN analytics.effects_by_day.tenant_id IS 'The tenant.';
COMMENT ON COLUMN analytics.effects_by_day.day IS 'The day of the measurement, UTC.';
COMMENT ON COLUMN analytics.effects_by_day.intervention IS 'What was done, such as discount_modal or poll.';
COMMENT ON COLUMN analytics.effects_by_day.trigger_kind IS 'emotion or anomaly.';
COMMENT ON COLUMN analytics.effects_by_day.trigger_name IS 'The emotion or the type of anomaly that it answered to.';
COMMENT ON COLUMN analytics.effects_by_day.holdout IS 'True for recipients who were held out, so that nothing was shown.';
COMMENT ON COLUMN analytics.effects_by_day.effects IS 'Interventions whose effect was measured, count from 1.';
COMMENT ON COLUMN analytics.effects_by_day.conversions IS 'Those of them whose recipient converted, count from 0.';
COMMENT ON COLUMN analytics.effects_by_day.conversion_rate IS 'conversions / effects, 0..1.';
COMMENT ON COLUMN analytics.effects_by_day.mean_reward IS 'Mean reward, 0..1.';
COMMENT ON COLUMN analytics.effects_by_day.mean_change IS 'Mean of score_after - score_before, -1..1.';
COMMENT ON COLUMN analytics.effects_by_day.reward_sum IS 'Sum of the rewards, 0..effects.';
COMMENT ON COLUMN analytics.effects_by_day.reward_squares IS 'Sum of the squared rewards, 0..effects: with reward_sum it gives their variance.';
