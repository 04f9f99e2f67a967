-- Runs at every migrate: lift against the holdout, with its uncertainty.
--
--   conversions   the difference of two proportions with Newcombe's hybrid score interval: method 10 of R. G. Newcombe,
--                 "Interval estimation for the difference between independent proportions", Statistics in Medicine 17
--                 (1998). It holds for small groups and for rates at 0 or 1, where the usual interval does not.
--   reward        the difference of two means with Welch's interval (Biometrika 34, 1947): variances may differ.
--                 Student's quantile is the expansion of Abramowitz and Stegun, 26.7.5: at most 0.13 % off from 3
--                 degrees of freedom on.
--
-- Functions rather than columns alone, because days may be added up before they are compared. analytics.lift runs with
-- its owner's rights, because in a function TimescaleDB asks for rights on what stands behind a view; whose rows are seen
-- goes by who logged in all the same.

CREATE OR REPLACE FUNCTION analytics.newcombe(
    successes1 bigint, trials1 bigint, successes2 bigint, trials2 bigint, side integer
) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN trials1 > 0 AND trials2 > 0 THEN
        successes1::float8 / trials1 - successes2::float8 / trials2 + side * sqrt(
            power(analytics.wilson(successes1, trials1, side) - successes1::float8 / trials1, 2)
            + power(analytics.wilson(successes2, trials2, -side) - successes2::float8 / trials2, 2)
        )
    END;
END;

COMMENT ON FUNCTION analytics.newcombe IS 'A bound of Newcombe''s interval (method 10, 95 %) of the difference of two proportions, the first less the second: side -1 the lower, 1 the upper, -1..1. Null when a group is empty.';

CREATE OR REPLACE FUNCTION analytics.student(freedom float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN freedom >= 3 THEN
        z + (z ^ 3 + z) / 4 / freedom
        + (5 * z ^ 5 + 16 * z ^ 3 + 3 * z) / 96 / freedom ^ 2
        + (3 * z ^ 7 + 19 * z ^ 5 + 17 * z ^ 3 - 15 * z) / 384 / freedom ^ 3
        + (79 * z ^ 9 + 776 * z ^ 7 + 1482 * z ^ 5 - 1920 * z ^ 3 - 945 * z) / 92160 / freedom ^ 4
    END
    FROM (VALUES (1.959963984540054::float8)) AS normal (z);
END;

COMMENT ON FUNCTION analytics.student IS 'The 97.5 % quantile of Student''s t (Abramowitz and Stegun, 26.7.5); null below 3 degrees of freedom.';

CREATE OR REPLACE FUNCTION analytics.welch(
    count1 bigint, sum1 float8, squares1 float8, count2 bigint, sum2 float8, squares2 float8, side integer
) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT sum1 / nullif(count1, 0) - sum2 / nullif(count2, 0) + side * sqrt(error1 + error2) * CASE
        WHEN error1 + error2 = 0 THEN 0
        ELSE analytics.student(
            (error1 + error2) ^ 2 / (error1 ^ 2 / nullif(count1 - 1, 0) + error2 ^ 2 / nullif(count2 - 1, 0))
        )
    END
    FROM (
        SELECT greatest(0, squares1 - sum1 ^ 2 / nullif(count1, 0)) / nullif(count1 - 1, 0) / nullif(count1, 0),
               greatest(0, squares2 - sum2 ^ 2 / nullif(count2, 0)) / nullif(count2 - 1, 0) / nullif(count2, 0)
    ) AS errors (error1, error2);
END;

COMMENT ON FUNCTION analytics.welch IS 'A bound of Welch''s interval (95 %) of the difference of two means, the first less the second, from count, sum and sum of squares: side -1 the lower, 1 the upper. Null when a group has less than two.';

CREATE OR REPLACE FUNCTION analytics.lift(since date, until date)
RETURNS TABLE (
    tenant_id text, intervention text, treated bigint, held_out bigint, treated_rate float8, held_out_rate float8,
    lift float8, lift_low float8, lift_high float8, reward_lift float8, reward_low float8, reward_high float8
)
LANGUAGE sql STABLE SECURITY DEFINER
BEGIN ATOMIC
    SELECT tenant_id, intervention, treated, held_out, won1::float8 / nullif(treated, 0),
           won2::float8 / nullif(held_out, 0),
           won1::float8 / nullif(treated, 0) - won2::float8 / nullif(held_out, 0),
           analytics.newcombe(won1, treated, won2, held_out, -1),
           analytics.newcombe(won1, treated, won2, held_out, 1),
           sum1 / nullif(treated, 0) - sum2 / nullif(held_out, 0),
           analytics.welch(treated, sum1, squares1, held_out, sum2, squares2, -1),
           analytics.welch(treated, sum1, squares1, held_out, sum2, squares2, 1)
    FROM (
        SELECT tenant_id, intervention,
               coalesce(sum(effects) FILTER (WHERE NOT holdout), 0)::bigint AS treated,
               coalesce(sum(effects) FILTER (WHERE holdout), 0)::bigint AS held_out,
               coalesce(sum(conversions) FILTER (WHERE NOT holdout), 0)::bigint AS won1,
               coalesce(sum(conversions) FILTER (WHERE holdout), 0)::bigint AS won2,
               coalesce(sum(reward_sum) FILTER (WHERE NOT holdout), 0) AS sum1,
               coalesce(sum(reward_sum) FILTER (WHERE holdout), 0) AS sum2,
               coalesce(sum(reward_squares) FILTER (WHERE NOT holdout), 0) AS squares1,
               coalesce(sum(reward_squares) FILTER (WHERE holdout), 0) AS squares2
        FROM analytics.effects_by_day
        WHERE day >= since AND day < until
        GROUP BY tenant_id, intervention
    ) AS arms;
END;

COMMENT ON FUNCTION analytics.lift IS 'Lift against the holdout over the days since <= day < until, with the columns of lift_by_day.';

CREATE OR REPLACE VIEW analytics.lift_by_day WITH (security_barrier) AS
SELECT tenant_id, day, intervention, treated, held_out, won1::float8 / nullif(treated, 0) AS treated_rate,
       won2::float8 / nullif(held_out, 0) AS held_out_rate,
       won1::float8 / nullif(treated, 0) - won2::float8 / nullif(held_out, 0) AS lift,
       analytics.newcombe(won1, treated, won2, held_out, -1) AS lift_low,
       analytics.newcombe(won1, treated, won2, held_out, 1) AS lift_high,
       sum1 / nullif(treated, 0) - sum2 / nullif(held_out, 0) AS reward_lift,
       analytics.welch(treated, sum1, squares1, held_out, sum2, squares2, -1) AS reward_low,
       analytics.welch(treated, sum1, squares1, held_out, sum2, squares2, 1) AS reward_high
FROM (
    SELECT tenant_id, day, intervention,
           coalesce(sum(effects) FILTER (WHERE NOT holdout), 0)::bigint AS treated,
           coalesce(sum(effects) FILTER (WHERE holdout), 0)::bigint AS held_out,
           coalesce(sum(conversions) FILTER (WHERE NOT holdout), 0)::bigint AS won1,
           coalesce(sum(conversions) FILTER (WHERE holdout), 0)::bigint AS won2,
           coalesce(sum(reward_sum) FILTER (WHERE NOT holdout), 0) AS sum1,
           coalesce(sum(reward_sum) FILTER (WHERE holdout), 0) AS sum2,
           coalesce(sum(reward_squares) FILTER (WHERE NOT holdout), 0) AS squares1,
           coalesce(sum(reward_squares) FILTER (WHERE holdout), 0) AS squares2
    FROM analytics.effects_by_day
    GROUP BY tenant_id, day, intervention
) AS arms;

COMMENT ON VIEW analytics.lift_by_day IS 'What interventions won over doing nothing, by day: those treated beside those held out. Look at many days and some will seem to win by chance: analytics.lift(since, until) takes them together.';
COMMENT ON COLUMN analytics.lift_by_day.tenant_id IS 'The tenant.';
COMMENT ON COLUMN analytics.lift_by_day.day IS 'The day of the measurement, UTC.';
COMMENT ON COLUMN analytics.lift_by_day.intervention IS 'What was done, such as discount_modal or poll.';
COMMENT ON COLUMN analytics.lift_by_day.treated IS 'Interventions that were fired and measured, count from 0.';
COMMENT ON COLUMN analytics.lift_by_day.held_out IS 'Interventions that were held out and measured, count from 0.';
COMMENT ON COLUMN analytics.lift_by_day.treated_rate IS 'Share of the treated that converted, 0..1; null if there are none.';
COMMENT ON COLUMN analytics.lift_by_day.held_out_rate IS 'Share of the held out that converted, 0..1; null if there are none.';
COMMENT ON COLUMN analytics.lift_by_day.lift IS 'treated_rate - held_out_rate, -1..1.';
COMMENT ON COLUMN analytics.lift_by_day.lift_low IS 'Lower bound of the lift, 95 %, Newcombe''s interval (1998, method 10). Above 0: it wins.';
COMMENT ON COLUMN analytics.lift_by_day.lift_high IS 'Upper bound of the lift, 95 %, Newcombe''s interval (1998, method 10). Below 0: it loses.';
COMMENT ON COLUMN analytics.lift_by_day.reward_lift IS 'Mean reward of the treated less that of the held out, -1..1.';
COMMENT ON COLUMN analytics.lift_by_day.reward_low IS 'Lower bound of reward_lift, 95 %, Welch''s interval (1947); null below 2 of either, or 3 degrees of freedom.';
COMMENT ON COLUMN analytics.lift_by_day.reward_high IS 'Upper bound of reward_lift, 95 %, Welch''s interval (1947); null below 2 of either, or 3 degrees of freedom.';
