-- Runs at every migrate: what flows may do. before_owner.sql makes the roles, repeat_views_rights.sql says what
-- analysts may read.
--
--   attune_writer   what the flows need: insert and update rows, never delete them nor change a table

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'attune_writer') THEN
        RAISE NOTICE 'role attune_writer is not there: no rights are granted';
        RETURN;
    END IF;
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO attune_writer', current_database());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO attune_writer', current_schema());
    GRANT SELECT, INSERT, UPDATE ON
        engagement_metrics, anomalies, sessions, emotions, interventions, intervention_outcomes, agent_performance,
        orchestrator_decisions, handoffs, calibration, dead_letters
        TO attune_writer;
    GRANT SELECT ON attune_migrations TO attune_writer;
END
$$;
