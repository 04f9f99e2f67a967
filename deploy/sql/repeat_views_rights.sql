-- Runs at every migrate, after the views: who may read them.

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'attune_analyst') THEN
        GRANT USAGE ON SCHEMA analytics TO attune_analyst;
        GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO attune_analyst;
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA analytics TO attune_analyst;
    END IF;
END
$$;
