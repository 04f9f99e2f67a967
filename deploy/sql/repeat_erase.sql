-- Runs at every migrate: how `attune db erase` finds what is about a person or a tenant, and takes it away.

-- The table that holds a rollup's rows: its own, or what stands behind a continuous aggregate.
CREATE OR REPLACE FUNCTION attune_stored_in(rollup text) RETURNS regclass
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    found regclass;
BEGIN
    IF to_regclass('timescaledb_information.continuous_aggregates') IS NOT NULL THEN
        EXECUTE 'SELECT format(''%I.%I'', materialization_hypertable_schema, materialization_hypertable_name)::regclass '
                'FROM timescaledb_information.continuous_aggregates '
                'WHERE view_schema = current_schema() AND view_name = $1'
            INTO found USING rollup;
    END IF;
    RETURN coalesce(found, rollup::regclass);
END
$$;

-- Whether a JSON document has this name as a value or a key, at any depth.
CREATE OR REPLACE FUNCTION attune_names(document jsonb, who text) RETURNS boolean
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT jsonb_path_exists(document, '$.** ? (@ == $who)', jsonb_build_object('who', who))
        OR jsonb_path_exists(
            document, '$.** ? (@.type() == "object").keyvalue() ? (@.key == $who)', jsonb_build_object('who', who)
        );
END;

-- The JSON of a dead letter, null where it is none: most are whole, some are broken or cut off.
CREATE OR REPLACE FUNCTION attune_payload(payload text, encoding text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
    RETURN CASE encoding WHEN 'base64' THEN convert_from(decode(payload, 'base64'), 'UTF8') ELSE payload END::jsonb;
EXCEPTION
    WHEN data_exception OR invalid_text_representation OR program_limit_exceeded THEN RETURN NULL;
END
$$;

-- Whether a dead letter names somebody: in its JSON, or, where that is broken, in quotes.
CREATE OR REPLACE FUNCTION attune_mentions(payload text, encoding text, who text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    quoted bytea := convert_to(to_json(who)::text, 'UTF8');
BEGIN
    IF coalesce(attune_names(attune_payload(payload, encoding), who), false) THEN
        RETURN true;
    END IF;
    IF encoding = 'base64' THEN
        RETURN position(quoted IN decode(payload, 'base64')) > 0;
    END IF;
    RETURN position(quoted IN convert_to(payload, 'UTF8')) > 0;
END
$$;

-- Delete all that is a tenant's.
CREATE OR REPLACE FUNCTION attune_erase_tenant(tenant text)
RETURNS TABLE (place text, removed bigint, changed bigint)
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', true);
    PERFORM set_config('attune.expiring', 'on', true); -- there is nothing to sum again
    changed := 0;
    FOREACH place IN ARRAY ARRAY[
        'engagement_metrics', 'anomalies', 'sessions', 'emotions', 'interventions', 'intervention_outcomes',
        'agent_performance', 'orchestrator_decisions', 'handoffs', 'calibration', 'engagement_minutes',
        'engagement_hours', 'emotion_hours', 'intervention_hours', 'decision_hours', 'effect_days', 'rollup_changes',
        'rollup_claims', 'attune_analysts'
    ]
    LOOP
        EXECUTE format('DELETE FROM %s WHERE tenant_id = $1', attune_stored_in(place)) USING tenant;
        GET DIAGNOSTICS removed = ROW_COUNT;
        RETURN NEXT;
    END LOOP;
    place := 'dead_letters';
    DELETE FROM dead_letters AS letter
    WHERE letter.tenant_id = tenant
        OR letter.tenant_id = '' AND attune_mentions(letter.payload, letter.encoding, tenant);
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN NEXT;
END
$$;

-- Delete, or make a stranger's, all that is about a person. Sessions that were this person's alone are about him, too:
-- their scores, their summary and their sums.
CREATE OR REPLACE FUNCTION attune_erase_person(tenant text, person text, pseudonymise boolean)
RETURNS TABLE (place text, removed bigint, changed bigint)
LANGUAGE plpgsql
AS $$
DECLARE
    -- Random, and kept nowhere: a digest of the name could be worked out again by whoever knows the name.
    stranger CONSTANT text := 'erased-' || gen_random_uuid();
    his text;
BEGIN
    PERFORM set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', true);
    DROP TABLE IF EXISTS attune_visited, attune_renamed;

    CREATE TEMPORARY TABLE attune_visited ON COMMIT DROP AS
    SELECT session_id, 'erased-' || gen_random_uuid() AS stranger, true AS alone
    FROM (
        SELECT session_id FROM emotions WHERE tenant_id = tenant AND user_id = person
        UNION SELECT session_id FROM interventions
        WHERE tenant_id = tenant AND (user_id = person OR trigger_kind = 'emotion' AND recipient = person)
        UNION SELECT session_id FROM intervention_outcomes WHERE tenant_id = tenant AND user_id = person
        UNION SELECT session_id FROM agent_performance
        WHERE tenant_id = tenant AND (user_id = person OR trigger_kind = 'emotion' AND recipient = person)
        UNION SELECT session_id FROM orchestrator_decisions WHERE tenant_id = tenant AND user_id = person
        UNION SELECT session_id FROM handoffs WHERE tenant_id = tenant AND user_id = person
    ) AS found;
    ANALYZE attune_visited;
    UPDATE attune_visited AS visited SET alone = false
    WHERE EXISTS (
        SELECT FROM engagement_metrics AS other WHERE other.tenant_id = tenant
            AND other.session_id = visited.session_id AND (other.connected_users > 1 OR other.active_users > 1)
    ) OR EXISTS (
        SELECT FROM engagement_minutes AS other WHERE other.tenant_id = tenant
            AND other.session_id = visited.session_id AND other.connected_max > 1
    ) OR EXISTS (
        SELECT FROM sessions AS other WHERE other.tenant_id = tenant AND other.session_id = visited.session_id
            AND other.users > 1
    ) OR EXISTS (
        SELECT FROM emotions AS other WHERE other.tenant_id = tenant AND other.session_id = visited.session_id
            AND other.user_id <> person
    ) OR EXISTS (
        SELECT FROM interventions AS other WHERE other.tenant_id = tenant AND other.session_id = visited.session_id
            AND other.user_id <> person
    ) OR EXISTS (
        SELECT FROM orchestrator_decisions AS other WHERE other.tenant_id = tenant
            AND other.session_id = visited.session_id AND other.user_id <> person
    );

    -- Raw records can't be made a stranger's with certainty: they go in either case.
    place := 'dead_letters';
    changed := 0;
    DELETE FROM dead_letters AS letter
    WHERE letter.tenant_id IN (tenant, '')
        AND (
            attune_mentions(letter.payload, letter.encoding, person)
            OR letter.detail_got IN (person, '"' || person || '"', '''' || person || '''')
        )
        AND (
            letter.tenant_id = tenant
            OR coalesce(attune_payload(letter.payload, letter.encoding) ->> 'tenant_id', tenant) = tenant
        );
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN NEXT;

    IF pseudonymise THEN
        RETURN QUERY SELECT * FROM attune_estrange(tenant, person, stranger);
        RETURN;
    END IF;
    FOR place, his IN
        VALUES
            ('emotions', 'user_id = $2'),
            ('interventions', 'user_id = $2 OR trigger_kind = ''emotion'' AND recipient = $2'),
            ('intervention_outcomes', 'user_id = $2'),
            ('agent_performance', 'user_id = $2 OR trigger_kind = ''emotion'' AND recipient = $2'),
            ('orchestrator_decisions', 'user_id = $2'),
            ('handoffs', 'user_id = $2'),
            ('engagement_metrics', 'false'), ('anomalies', 'false'), ('sessions', 'false'),
            ('engagement_minutes', 'false'), ('engagement_hours', 'false')
    LOOP
        EXECUTE format(
            'DELETE FROM %s WHERE tenant_id = $1 AND '
            '(%s OR session_id IN (SELECT session_id FROM attune_visited WHERE alone))',
            attune_stored_in(place), his
        ) USING tenant, person;
        GET DIAGNOSTICS removed = ROW_COUNT;
        RETURN NEXT;
    END LOOP;
    -- What a whole session was shown stays, but for the name in it; and what a person approved, but for who did.
    place := 'interventions';
    removed := 0;
    changed := attune_unname(tenant, person, NULL);
    RETURN NEXT;
END
$$;

-- Give a person's rows a stranger's name. What could lead back goes: ids, which are made of sessions, times and
-- events; evidence; texts.
CREATE OR REPLACE FUNCTION attune_estrange(tenant text, person text, stranger text)
RETURNS TABLE (place text, removed bigint, changed bigint)
LANGUAGE plpgsql
AS $$
DECLARE
    his text;
    change text;
BEGIN
    removed := 0;
    CREATE TEMPORARY TABLE attune_renamed ON COMMIT DROP AS
    SELECT known AS old, 'erased/' || gen_random_uuid() AS new
    FROM (
        SELECT id AS known FROM emotions WHERE tenant_id = tenant AND user_id = person
        UNION SELECT id FROM interventions
        WHERE tenant_id = tenant AND (user_id = person OR trigger_kind = 'emotion' AND recipient = person)
        UNION SELECT id FROM intervention_outcomes WHERE tenant_id = tenant AND user_id = person
        UNION SELECT id FROM agent_performance
        WHERE tenant_id = tenant AND (user_id = person OR trigger_kind = 'emotion' AND recipient = person)
        UNION SELECT id FROM orchestrator_decisions WHERE tenant_id = tenant AND user_id = person
        UNION SELECT id FROM handoffs WHERE tenant_id = tenant AND user_id = person
        UNION SELECT own.id FROM engagement_metrics AS own JOIN attune_visited USING (session_id)
        WHERE own.tenant_id = tenant AND alone
        UNION SELECT own.id FROM anomalies AS own JOIN attune_visited USING (session_id)
        WHERE own.tenant_id = tenant AND alone
        UNION SELECT own.id FROM sessions AS own JOIN attune_visited USING (session_id)
        WHERE own.tenant_id = tenant AND alone
        UNION SELECT own.id FROM interventions AS own JOIN attune_visited USING (session_id)
        WHERE own.tenant_id = tenant AND alone
        UNION SELECT own.id FROM agent_performance AS own JOIN attune_visited USING (session_id)
        WHERE own.tenant_id = tenant AND alone
    ) AS found;
    CREATE UNIQUE INDEX ON attune_renamed (old);
    ANALYZE attune_renamed;

    FOR place, his, change IN
        VALUES
            ('emotions', 'user_id = $2', 'user_id = $1, evidence = ''{}'''),
            ('interventions', 'user_id = $2 OR trigger_kind = ''emotion'' AND recipient = $2',
                'user_id = $1, recipient = $1, content = NULL, why = '''', trigger_id = attune_new_id(trigger_id)'),
            ('intervention_outcomes', 'user_id = $2',
                'user_id = $1, intervention_id = attune_new_id(intervention_id)'),
            ('agent_performance', 'user_id = $2 OR trigger_kind = ''emotion'' AND recipient = $2',
                'user_id = $1, recipient = $1, trigger_id = attune_new_id(trigger_id), '
                'intervention_id = attune_new_id(intervention_id)'),
            ('orchestrator_decisions', 'user_id = $2',
                'user_id = $1, answer = NULL, conversation_id = $1 || ''/'' || md5($1 || conversation_id)'),
            ('handoffs', 'user_id = $2',
                'user_id = $1, conversation_id = $1 || ''/'' || md5($1 || conversation_id)')
    LOOP
        changed := attune_rewrite(place::regclass, his, 'id = attune_new_id(id), ' || change, tenant, person, stranger);
        RETURN NEXT;
    END LOOP;
    -- What others did with what was his points to its new id, and sessions of his alone lose their name.
    FOR place, his, change IN
        VALUES
            ('interventions', 'trigger_id IN (SELECT old FROM attune_renamed)',
                'trigger_id = attune_new_id(trigger_id)'),
            ('intervention_outcomes', 'intervention_id IN (SELECT old FROM attune_renamed)',
                'intervention_id = attune_new_id(intervention_id)'),
            ('agent_performance', 'intervention_id IN (SELECT old FROM attune_renamed)',
                'trigger_id = attune_new_id(trigger_id), intervention_id = attune_new_id(intervention_id)')
    LOOP
        changed := attune_rewrite(place::regclass, his, change, tenant, person, stranger);
        RETURN NEXT;
    END LOOP;
    FOR place, change IN
        VALUES
            ('engagement_metrics', ', id = attune_new_id(id)'), ('anomalies', ', id = attune_new_id(id)'),
            ('sessions', ', id = attune_new_id(id)'), ('emotions', ''),
            ('interventions', ', id = attune_new_id(id), content = NULL, why = '''', recipient = CASE '
                'WHEN recipient = session_id THEN attune_new_session(session_id) ELSE recipient END'),
            ('intervention_outcomes', ''),
            ('agent_performance', ', id = attune_new_id(id), recipient = CASE '
                'WHEN recipient = session_id THEN attune_new_session(session_id) ELSE recipient END'),
            ('orchestrator_decisions', ''), ('handoffs', ''), ('engagement_minutes', ''), ('engagement_hours', '')
    LOOP
        changed := attune_rewrite(
            attune_stored_in(place), 'session_id IN (SELECT session_id FROM attune_visited WHERE alone)',
            'session_id = attune_new_session(session_id)' || change, tenant, person, stranger
        );
        RETURN NEXT;
    END LOOP;
    place := 'interventions';
    changed := attune_unname(tenant, person, stranger);
    RETURN NEXT;
END
$$;

-- Take a person's name out of others' interventions, and return of how many.
CREATE OR REPLACE FUNCTION attune_unname(tenant text, person text, stranger text) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    touched bigint;
BEGIN
    UPDATE interventions
    SET content = CASE WHEN attune_names(content, person) THEN NULL ELSE content END,
        decided_by = CASE WHEN decided_by = person THEN stranger ELSE decided_by END
    WHERE tenant_id = tenant AND (attune_names(content, person) OR decided_by = person);
    GET DIAGNOSTICS touched = ROW_COUNT;
    RETURN touched;
END
$$;

-- Take rows of a tenant out, change them and put them back, and return how many: keys can't be updated where a chunk is
-- compressed. In the condition $2 is the person, in the change $1 the stranger.
CREATE OR REPLACE FUNCTION attune_rewrite(
    place regclass, condition text, change text, tenant text, person text, stranger text
) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    moved bigint;
BEGIN
    EXECUTE format('CREATE TEMPORARY TABLE attune_moved ON COMMIT DROP AS SELECT * FROM %s LIMIT 0', place);
    EXECUTE format(
        'INSERT INTO attune_moved SELECT * FROM %s WHERE tenant_id = $1 AND (%s)', place, condition
    ) USING tenant, person;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved > 0 THEN
        EXECUTE format('DELETE FROM %s WHERE tenant_id = $1 AND (%s)', place, condition)
            USING tenant, person;
        EXECUTE 'UPDATE attune_moved SET ' || change USING stranger;
        EXECUTE format('INSERT INTO %s SELECT * FROM attune_moved', place);
    END IF;
    DROP TABLE attune_moved;
    RETURN moved;
END
$$;

-- The new name of a session that was a person's alone.
CREATE OR REPLACE FUNCTION attune_new_session(known text) RETURNS text
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN coalesce((SELECT visited.stranger FROM attune_visited AS visited WHERE visited.session_id = known), known);
END
$$;

-- The new id for one that was renamed, else the same.
CREATE OR REPLACE FUNCTION attune_new_id(known text) RETURNS text
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN coalesce((SELECT new FROM attune_renamed WHERE old = known), known);
END
$$;

REVOKE ALL ON FUNCTION
    attune_stored_in, attune_names, attune_payload, attune_mentions, attune_erase_tenant, attune_erase_person,
    attune_estrange, attune_unname, attune_rewrite, attune_new_id, attune_new_session
    FROM PUBLIC;
