-- The schema for people who analyse: `analyst` becomes `analytics`. Its views are made by repeat_view_*.sql.
--
-- Who sees which tenant stays in attune_analysts. The views ask analytics.tenants() once for each query. Policies of
-- PostgreSQL's own row-level security would have to stand on the tables: TimescaleDB refuses these on compressed ones.

SET LOCAL client_min_messages = 'warning';
DROP SCHEMA analyst CASCADE;
SET LOCAL client_min_messages = 'notice';

CREATE SCHEMA analytics;

COMMENT ON SCHEMA analytics IS 'Views for people, each login seeing its own tenants alone.';

CREATE FUNCTION analytics.tenants() RETURNS text[]
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
BEGIN ATOMIC
    -- session_user, because SET ROLE does not change it.
    SELECT coalesce(array_agg(allowed.tenant_id), '{}') FROM attune_analysts AS allowed WHERE allowed.login = session_user;
END;

COMMENT ON FUNCTION analytics.tenants IS 'The tenants that this login may see.';

CREATE OR REPLACE PROCEDURE attune_admit_analyst(login text, tenant text)
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO attune_analysts VALUES (login, tenant) ON CONFLICT DO NOTHING;
    IF login <> 'attune_analyst' THEN
        EXECUTE format('GRANT attune_analyst TO %I', login);
    END IF;
    -- Defaults of the login's sessions. PostgreSQL lets a session change them: they stop accidents, the views stop
    -- the rest.
    EXECUTE format('ALTER ROLE %I SET statement_timeout = ''30s''', login);
    EXECUTE format('ALTER ROLE %I SET default_transaction_read_only = on', login);
END
$$;

COMMENT ON PROCEDURE attune_admit_analyst IS 'Let a login see a tenant in the schema analytics; read only, 30 s a statement.';

CREATE PROCEDURE attune_dismiss_analyst(login text, tenant text)
LANGUAGE sql
BEGIN ATOMIC
    DELETE FROM attune_analysts AS known
    WHERE known.login = attune_dismiss_analyst.login AND known.tenant_id = attune_dismiss_analyst.tenant;
END;

REVOKE ALL ON PROCEDURE attune_dismiss_analyst FROM PUBLIC;

COMMENT ON PROCEDURE attune_dismiss_analyst IS 'Let a login no longer see a tenant.';

-- A tenant's rows of a day, and what an emotion or anomaly led to, found without reading the rest.
CREATE INDEX idx_anomaly_time ON anomalies (tenant_id, ts DESC);
CREATE INDEX idx_emotion_time ON emotions (tenant_id, ts DESC);
CREATE INDEX idx_intervention_time ON interventions (tenant_id, ts DESC);
CREATE INDEX idx_intervention_trigger ON interventions (trigger_id);
CREATE INDEX idx_agent_performance_time ON agent_performance (tenant_id, ts DESC);
CREATE INDEX idx_decision_time ON orchestrator_decisions (tenant_id, ts DESC);

-- dead_letters is never a hypertable, so an hour of it may be an index's. Its ts is its sender's, who may be ages off:
-- how long a row is kept goes by when it was stored.
CREATE INDEX idx_dead_letter_hour ON dead_letters (tenant_id, date_bin('1 hour', ts, '2000-01-01 00:00:00+00'));
ALTER TABLE dead_letters ADD COLUMN stored_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX idx_dead_letter_stored ON dead_letters (tenant_id, stored_at);

COMMENT ON COLUMN dead_letters.stored_at IS 'When the row was first stored, by the database''s clock; retention goes by it.';
