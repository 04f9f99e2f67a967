-- Runs at every migrate: where TimescaleDB (2.13 or newer) is installed, tables become hypertables, those that have
-- rows already with their rows; elsewhere they stay ordinary tables and nothing else changes.
--
-- dead_letters stays an ordinary table: its ts is whatever a sender wrote, and every far-off value would open a chunk.

DO $$
DECLARE
    version text := (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb');
    wanted record;
BEGIN
    IF version IS NULL THEN
        RETURN;
    END IF;
    IF (string_to_array(split_part(version, '-', 1), '.')::int[])[1:2] < ARRAY[2, 13] THEN
        RAISE EXCEPTION 'TimescaleDB % is too old, 2.13 is needed', version
            USING HINT = 'Run ALTER EXTENSION timescaledb UPDATE, then migrate again.';
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
