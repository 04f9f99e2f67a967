-- Runs at every migrate: the two roles that logins are given, and their rights.
--
--   attune_writer   what the flows need: insert and update rows, never delete them nor change a table
--   attune_analyst  the views of the schema analyst
--
-- Roles belong to the whole server, and to make them needs CREATEROLE. Without it the tables work for their owner.

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['attune_writer', 'attune_analyst']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL; -- another database's migrate was quicker
                WHEN insufficient_privilege THEN
                    RAISE NOTICE 'role % is not there and this user may not make it: no rights are granted', wanted;
                    RETURN;
            END;
        END IF;
    END LOOP;
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO attune_writer', current_database());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO attune_writer', current_schema());
    GRANT SELECT, INSERT, UPDATE ON
        engagement_metrics, anomalies, sessions, emotions, interventions, intervention_outcomes, agent_performance,
        orchestrator_decisions, handoffs, calibration, dead_letters
        TO attune_writer;
    GRANT SELECT ON attune_migrations TO attune_writer;
    GRANT USAGE ON SCHEMA analyst TO attune_analyst;
    GRANT SELECT ON ALL TABLES IN SCHEMA analyst TO attune_analyst;
END
$$;
