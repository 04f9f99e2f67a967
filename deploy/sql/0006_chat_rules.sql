-- Which rule decided on an answer and what the others would have needed; and what a calibration was worked out from.
--
-- The columns keep their defaults: flows of the release before may go on writing until they are replaced.

ALTER TABLE orchestrator_decisions ADD COLUMN rule bigint NOT NULL DEFAULT 0;
ALTER TABLE orchestrator_decisions ADD COLUMN rules jsonb NOT NULL DEFAULT '[]';
ALTER TABLE orchestrator_decisions ADD COLUMN why text NOT NULL DEFAULT '';

COMMENT ON COLUMN orchestrator_decisions.rule IS 'The rule that decided, 1 to 9: the first that held. 0: written before it was recorded.';
COMMENT ON COLUMN orchestrator_decisions.rules IS 'All nine rules: a list of {rule, name, holds, decided, needs}.';
COMMENT ON COLUMN orchestrator_decisions.why IS 'Why the confidence calls for the action, in words.';

ALTER TABLE calibration ADD COLUMN answers bigint NOT NULL DEFAULT 0;
ALTER TABLE calibration ADD COLUMN bands jsonb NOT NULL DEFAULT '[]';

COMMENT ON COLUMN calibration.answers IS 'Answers that were judged, count from 0; the thresholds are worked out from them.';
COMMENT ON COLUMN calibration.bands IS 'Resolved hand-offs by confidence: a list of {low, high, resolved, confidence, not_needed}, all but the count 0..1.';
COMMENT ON COLUMN calibration.thresholds IS 'Thresholds under which the wanted shares of all answers would lie: an object of name and 0..1.';

-- A view keeps the columns that it was made with.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['orchestrator_decisions', 'calibration']
    LOOP
        EXECUTE format(
            'CREATE OR REPLACE VIEW analyst.%I WITH (security_barrier) AS SELECT * FROM %I WHERE tenant_id IN '
            '(SELECT allowed.tenant_id FROM attune_analysts AS allowed WHERE allowed.login = session_user)',
            name, name
        );
    END LOOP;
END
$$;
