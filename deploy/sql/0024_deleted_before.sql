-- Since when a table's rows are all there: what is counted from rows that have gone by age is unknown, not 0.
--
-- `attune db retain` says so in rollup_horizon, for all tables at once. Where TimescaleDB deletes, its policies say it,
-- and here stands what a policy had deleted before it was given more days or taken away.

CREATE TABLE deleted_before (
    source     text COLLATE "C" PRIMARY KEY,
    until_when timestamptz NOT NULL
);

COMMENT ON TABLE deleted_before IS 'Of which tables rows have been deleted by age, and up to when; beside rollup_horizon and the policies that are set.';
COMMENT ON COLUMN deleted_before.source IS 'The table.';
COMMENT ON COLUMN deleted_before.until_when IS 'Rows before it may have been deleted, event time.';

-- As before, but a login that is a member already is not granted it again: PostgreSQL gives a notice for that.
CREATE OR REPLACE PROCEDURE attune_admit_analyst(login text, tenant text)
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO attune_analysts VALUES (login, tenant) ON CONFLICT DO NOTHING;
    IF login <> 'attune_analyst' AND NOT EXISTS (
        SELECT FROM pg_auth_members AS known JOIN pg_roles AS one ON one.oid = known.member
        WHERE one.rolname = login AND known.roleid = 'attune_analyst'::regrole
    )
    THEN
        EXECUTE format('GRANT attune_analyst TO %I', login);
    END IF;
    -- Defaults of the login's sessions. PostgreSQL lets a session change them: they stop accidents, the views stop
    -- the rest.
    EXECUTE format('ALTER ROLE %I SET statement_timeout = ''30s''', login);
    EXECUTE format('ALTER ROLE %I SET default_transaction_read_only = on', login);
END
$$;
