-- What people who analyse may see: their own tenants' rows, through views, and nothing else.
--
-- An administrator lets a login in with CALL attune_admit_analyst('login', 'tenant'). dead_letters has no view: it
-- holds raw records and is the operators' business.

CREATE SCHEMA analyst;

COMMENT ON SCHEMA analyst IS 'Views of the tables, each login seeing its own tenants alone.';

CREATE TABLE attune_analysts (
    login     text NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (login, tenant_id)
);

COMMENT ON TABLE attune_analysts IS 'Which tenants a database login may see in the schema analyst.';
COMMENT ON COLUMN attune_analysts.login IS 'The role that logs in.';
COMMENT ON COLUMN attune_analysts.tenant_id IS 'A tenant it may see.';

-- session_user, because SET ROLE does not change it; security_barrier, so that a function in a query's condition is
-- not shown other tenants' rows before they are filtered out.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'engagement_metrics', 'anomalies', 'sessions', 'emotions', 'interventions', 'intervention_outcomes',
        'agent_performance', 'orchestrator_decisions', 'handoffs', 'calibration'
    ]
    LOOP
        EXECUTE format(
            'CREATE VIEW analyst.%I WITH (security_barrier) AS SELECT * FROM %I WHERE tenant_id IN '
            '(SELECT allowed.tenant_id FROM attune_analysts AS allowed WHERE allowed.login = session_user)',
            name, name
        );
    END LOOP;
END
$$;

CREATE PROCEDURE attune_admit_analyst(login text, tenant text)
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO attune_analysts VALUES (login, tenant) ON CONFLICT DO NOTHING;
    EXECUTE format('GRANT attune_analyst TO %I', login);
    -- Defaults of the login's sessions. PostgreSQL lets a session change them: they stop accidents, the views stop
    -- the rest.
    EXECUTE format('ALTER ROLE %I SET statement_timeout = ''30s''', login);
    EXECUTE format('ALTER ROLE %I SET default_transaction_read_only = on', login);
END
$$;

REVOKE ALL ON PROCEDURE attune_admit_analyst FROM PUBLIC;

COMMENT ON PROCEDURE attune_admit_analyst IS 'Let a login see a tenant in the schema analyst; read only, 30 s a statement.';
