-- Who approved an intervention, and the governor's decision in words.
--
-- The new columns have defaults: flows of the release before may go on writing until they are replaced.

ALTER TABLE interventions ADD COLUMN decided_by text COLLATE "C";
ALTER TABLE interventions ADD COLUMN why text COLLATE "C" NOT NULL DEFAULT '';

COMMENT ON COLUMN interventions.decided_by IS 'Who approved or refused it; null where nobody was asked.';
COMMENT ON COLUMN interventions.why IS 'The decision in words, with the numbers that it rests on; empty: written before it was recorded.';
COMMENT ON COLUMN interventions.reason IS 'Why not: disabled, low_confidence, quiet_hours, cooldown, rate_limit, budget, outranked, holdout or pending_limit (suppressed), approval (pending), disabled (refused); null otherwise.';
COMMENT ON COLUMN interventions.content IS 'What the client shows: headline, body, call_to_action, whom it is shown to, and a poll where one goes with it; null where nothing is shown.';

-- A view keeps the columns that it was made with.
DO $$
BEGIN
    EXECUTE
        'CREATE OR REPLACE VIEW analyst.interventions WITH (security_barrier) AS SELECT * FROM interventions WHERE '
        'tenant_id IN (SELECT allowed.tenant_id FROM attune_analysts AS allowed WHERE allowed.login = session_user)';
END
$$;
