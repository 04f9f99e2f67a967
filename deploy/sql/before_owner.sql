-- Runs at the beginning of every migrate: the roles, and as whom the migrations run.
--
--   attune_owner    owns what the migrations make, so that anybody who is a member can run the next one
--   attune_writer   what the flows need
--   attune_analyst  what people who analyse need
--
-- attune_owner may log in, because TimescaleDB runs the jobs of a table in its owner's name; it has no password. Roles
-- belong to the whole server, and to make them needs CREATEROLE. Who may not, or whose database was prepared before
-- the role was, goes on in his own name.

DO $$
DECLARE
    wanted text;
    kind text;
BEGIN
    FOR wanted, kind IN VALUES ('attune_owner', 'LOGIN'), ('attune_writer', 'NOLOGIN'), ('attune_analyst', 'NOLOGIN')
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I %s', wanted, kind);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL; -- another database's migrate was quicker
                WHEN insufficient_privilege THEN
                    RAISE NOTICE 'role % is not there and this user may not make it', wanted;
            END;
        END IF;
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'attune_owner') THEN
        RETURN;
    END IF;
    IF to_regclass('attune_migrations') IS NULL THEN
        BEGIN
            IF NOT pg_has_role(current_user, 'attune_owner', 'MEMBER') THEN
                EXECUTE format('GRANT attune_owner TO %I', current_user);
            END IF;
            SET LOCAL client_min_messages = 'error'; -- who may not grant is warned, and found out below
            EXECUTE format(
                'GRANT CREATE, TEMPORARY ON DATABASE %I TO attune_owner WITH GRANT OPTION', current_database()
            );
            EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO attune_owner WITH GRANT OPTION', current_schema());
        EXCEPTION
            WHEN insufficient_privilege THEN RETURN;
        END;
        IF NOT has_database_privilege('attune_owner', current_database(), 'CREATE')
            OR NOT has_schema_privilege('attune_owner', current_schema(), 'CREATE')
        THEN
            RETURN;
        END IF;
    ELSIF NOT EXISTS (
        SELECT FROM pg_class
        WHERE oid = to_regclass('attune_migrations') AND relowner = 'attune_owner'::regrole
            AND pg_has_role(current_user, relowner, 'MEMBER')
    )
    THEN
        RETURN;
    END IF;
    SET ROLE attune_owner;
END
$$;
