-- What set an intervention off, by name; and whom an effect is about.
--
-- The columns keep their defaults: flows of the release before may go on writing until they are replaced.

ALTER TABLE interventions ADD COLUMN trigger_name text COLLATE "C" NOT NULL DEFAULT '';

COMMENT ON COLUMN interventions.trigger_name IS 'The emotion or the type of anomaly that it answers to; empty: written before it was recorded.';

ALTER TABLE intervention_outcomes ADD COLUMN intervention text COLLATE "C" NOT NULL DEFAULT '';

COMMENT ON COLUMN intervention_outcomes.intervention IS 'What was done, such as discount_modal or poll; empty: written before it was recorded.';

ALTER TABLE agent_performance ADD COLUMN trigger_name text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE agent_performance ADD COLUMN recipient text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE agent_performance ADD COLUMN user_id text COLLATE "C";
ALTER TABLE agent_performance ADD COLUMN revision bigint NOT NULL DEFAULT 0 CHECK (revision >= 0);

COMMENT ON COLUMN agent_performance.trigger_name IS 'The emotion or the type of anomaly that it answered to; empty: written before it was recorded.';
COMMENT ON COLUMN agent_performance.recipient IS 'Whom the intervention was for: a user (trigger emotion) or the session (trigger anomaly); empty: written before it was recorded.';
COMMENT ON COLUMN agent_performance.user_id IS 'The user whom the intervention was for; null when it was for the whole session.';
COMMENT ON COLUMN agent_performance.ts IS 'When the effect was measured, event time: 60 s after the tick that covers the firing.';
COMMENT ON COLUMN agent_performance.revision IS 'Grows when a conversion comes after the effect was measured; the row holds the newest.';

-- A view keeps the columns that it was made with.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['interventions', 'intervention_outcomes', 'agent_performance']
    LOOP
        EXECUTE format(
            'CREATE OR REPLACE VIEW analyst.%I WITH (security_barrier) AS SELECT * FROM %I WHERE tenant_id IN '
            '(SELECT allowed.tenant_id FROM attune_analysts AS allowed WHERE allowed.login = session_user)',
            name, name
        );
    END LOOP;
END
$$;
