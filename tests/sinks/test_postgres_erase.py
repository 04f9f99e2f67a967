"""After an erasure nobody can be found by name in any column of any table, and everybody else is as before."""

import base64
import json
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.outbound import DeadLetter, Detail, Engagement
from sinks.postgres import Writer, erase_person, erase_tenant, refresh
from sinks.postgres.rows import TABLES
from sinks.postgres.upkeep import SOURCES, Touched
from tests.fix_postgres import ask, batch_of, do
from tests.fix_views import DAY, Filled
from tests.postgres_records import dead_letter

EVERYTHING = [
    *(table.name for table in TABLES.values()),
    *SOURCES,
    "rollup_changes",
    "rollup_claims",
    "attune_analysts",
]
WITH_USERS = ("emotions", "interventions", "intervention_outcomes", "agent_performance", "orchestrator_decisions")


def whole(db: str) -> dict[str, list[str]]:
    """Return every row of every table as text, base64 laid open."""
    rows = {table: [row for (row,) in ask(db, f"SELECT t::text FROM {table} AS t")] for table in EVERYTHING}
    letters = "SELECT encode(decode(payload, 'base64'), 'escape') FROM dead_letters WHERE encoding = 'base64'"
    rows["dead_letters"] += [text for (text,) in ask(db, letters)]
    return rows


def naming(db: str, name: str) -> dict[str, int]:
    """Return how many rows of each table have the name anywhere in them."""
    return {table: n for table, rows in whole(db).items() if (n := sum(name in row for row in rows))}


def somebody(db: str, tenant: str = "acme") -> tuple[str, str]:
    """Return a user with an intervention that was shown, and a session where nobody else was."""
    ((user, session),) = ask(
        db,
        "SELECT user_id, min(session_id) FROM intervention_outcomes JOIN sessions USING (tenant_id, session_id) "
        f"WHERE tenant_id = '{tenant}' AND users = 1 GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1",
    )
    return user, session


def compressed(day: Filled) -> None:
    """Put every chunk of the large tables into the columnstore."""
    for table in ("engagement_metrics", "emotions", "orchestrator_decisions"):
        do(
            day.owner,
            f"ALTER TABLE {table} SET (timescaledb.compress, timescaledb.compress_segmentby = 'tenant_id, session_id', "
            "timescaledb.compress_orderby = 'ts DESC')",
            f"SELECT compress_chunk(chunk) FROM show_chunks('{table}') AS chunk",
        )
    assert ask(day.owner, "SELECT count(*) > 2 FROM timescaledb_information.chunks WHERE is_compressed") == [(True,)]


def letter(ident: str, payload: bytes, tenant: str = "acme", **changes: Any) -> DeadLetter:
    try:
        text = {"payload": payload.decode()}
    except UnicodeDecodeError:
        text = {"payload": base64.b64encode(payload).decode(), "encoding": "base64"}
    return msgspec.structs.replace(dead_letter(""), id=ident, tenant_id=tenant, **text, **changes)


@pytest.mark.parametrize("mode", ["remove", "pseudonymise"])
def test_a_person_can_no_longer_be_found(own_day: Filled, mode: str) -> None:
    db = own_day.owner
    user, session = somebody(db)
    writer = Writer(db)
    writer.write(
        [
            batch_of(
                [
                    letter("whole", b'{"user_id": "%s"}' % user.encode()),
                    letter("broken", b'{"user_id": "%s", "text": "' % user.encode()),
                    letter("binary", b'\xff{"user_id": "%s"}' % user.encode()),
                    letter("deep", b'{"a": [{"b": ["%s"]}]}' % user.encode(), tenant=""),
                    letter("quoted", b"{}", detail=Detail("user_id", "shorter", f"'{user}'")),
                ]
            )
        ]
    )
    writer.close()
    if own_day.timescale:
        compressed(own_day)
    before = whole(db)
    assert len(naming(db, user)) >= 4

    told = erase_person(db, "acme", user, pseudonymise=mode == "pseudonymise")

    of_others = {
        table: count
        for table, count in naming(db, user).items()
        if count != len(ask(db, f"SELECT FROM {table} WHERE tenant_id <> 'acme' AND {table}::text LIKE '%%{user}%%'"))
    }
    assert of_others == {}
    assert naming(db, f"acme,{session},") == {}, "a session that was this person's alone"
    after = whole(db)
    for table in EVERYTHING:
        lost = sorted(set(before[table]) - set(after[table]))
        assert all(user in row or session in row for row in lost if table in WITH_USERS), table
    if mode == "remove":
        assert all(touched.removed for touched in told if touched.table in WITH_USERS)
        removed = {touched.table: touched.removed for touched in told}
        for table in (*WITH_USERS, "engagement_metrics", "sessions"):
            assert len(before[table]) - len(after[table]) == removed.get(table, 0), table
    else:
        for table in (*WITH_USERS, "engagement_metrics", "sessions", "anomalies"):
            assert len(before[table]) == len(after[table]), table
        joined = "SELECT count(*) FROM {0} JOIN emotions ON {0}.trigger_id = emotions.id"
        assert ask(db, joined.format("interventions"))[0][0] > 0
        unled = "SELECT count(*) FROM {} AS own WHERE NOT EXISTS (SELECT FROM {} AS other WHERE other.id = own.{})"
        assert ask(db, unled.format("intervention_outcomes", "interventions", "intervention_id")) == [(0,)]
        assert ask(db, unled.format("agent_performance", "interventions", "intervention_id")) == [(0,)]
        by_emotion = unled.format("interventions", "emotions", "trigger_id") + " AND own.trigger_kind = 'emotion'"
        assert ask(db, by_emotion) == [(0,)]
        strangers = {
            name for (name,) in ask(db, "SELECT DISTINCT user_id FROM emotions WHERE user_id LIKE 'erased-%%'")
        }
        assert len(strangers) == 1

    assert erase_person(db, "acme", user, pseudonymise=mode == "pseudonymise") == [], "a second run"
    assert whole(db) == after


def test_sums_follow_the_rows(own_day: Filled) -> None:
    db = own_day.owner
    user, _ = somebody(db)
    erase_person(db, "acme", user)
    assert ask(db, "SELECT sum(emotions)::bigint FROM emotion_hours") == ask(db, "SELECT count(*) FROM emotions")
    assert ask(db, "SELECT sum(ticks)::bigint FROM engagement_minutes") == ask(
        db, "SELECT count(*) FROM engagement_metrics"
    )


def test_what_a_room_shared_stays(own_day: Filled) -> None:
    """A person who spoke in a room goes; the room's scores are about the others, too."""
    db = own_day.owner
    ((room,),) = ask(db, "SELECT session_id FROM sessions WHERE tenant_id = 'acme' AND users > 1 ORDER BY 1 LIMIT 1")
    do(
        db,
        f"INSERT INTO emotions SELECT 'x', 'acme', '{room}', session_start, 'only-here', 'confusion', 0.7, 'r', '{{}}' "
        f"FROM sessions WHERE tenant_id = 'acme' AND session_id = '{room}'",
    )
    told = erase_person(db, "acme", "only-here")
    assert told == [Touched("emotions", 1, 0)]


def test_a_name_in_what_others_were_shown_is_taken_out(own_day: Filled) -> None:
    db = own_day.owner
    do(
        db,
        'UPDATE interventions SET content = \'{"winner": {"only-here": 1}}\' '
        "WHERE id = (SELECT min(id) FROM interventions WHERE tenant_id = 'acme' AND trigger_kind = 'anomaly')",
    )
    assert erase_person(db, "acme", "only-here") == [Touched("interventions", 0, 1)]
    assert naming(db, "only-here") == {}


@pytest.mark.parametrize("pseudonymise", [False, True])
def test_who_approved_is_a_person_too(own_day: Filled, pseudonymise: bool) -> None:
    db = own_day.owner
    ((there,),) = ask(db, "SELECT count(*) FROM interventions WHERE tenant_id = 'acme' AND decided_by = 'ops-1'")
    assert there > 0
    assert erase_person(db, "acme", "ops-1", pseudonymise=pseudonymise) == [Touched("interventions", 0, there)]
    ((left, kept),) = ask(
        db,
        "SELECT count(*) FILTER (WHERE decided_by = 'ops-1'), count(decided_by) FROM interventions "
        "WHERE tenant_id = 'acme'",
    )
    assert (left, kept) == (0, there if pseudonymise else 0)


def test_another_tenants_user_of_the_same_name_is_somebody_else(own_day: Filled) -> None:
    db = own_day.owner
    user, _ = somebody(db)
    do(
        db,
        "INSERT INTO emotions SELECT id || 'x', 'tenant-02', session_id, ts, user_id, emotion, confidence, rule, "
        f"evidence FROM emotions WHERE tenant_id = 'acme' AND user_id = '{user}'",
    )
    writer = Writer(db)
    foreign = msgspec.json.encode({"tenant_id": "tenant-02", "user_id": user})
    writer.write([batch_of([letter("theirs", foreign, tenant=""), letter("theirs-2", foreign, tenant="tenant-02")])])
    writer.close()
    theirs = ask(db, "TABLE emotions ORDER BY id")
    erase_person(db, "acme", user)
    assert [row for row in ask(db, "TABLE emotions ORDER BY id") if row[1] == "tenant-02"] == [
        row for row in theirs if row[1] == "tenant-02"
    ]
    assert ask(db, "SELECT count(*) FROM dead_letters WHERE id LIKE 'theirs%%'") == [(2,)]


def test_a_dry_run_touches_nothing(own_day: Filled) -> None:
    db = own_day.owner
    user, _ = somebody(db)
    before = whole(db)
    told = erase_person(db, "acme", user, dry_run=True)
    assert whole(db) == before
    assert erase_person(db, "acme", user) == told
    assert erase_tenant(db, "acme", dry_run=True)
    assert naming(db, "acme")


def test_a_tenant_is_gone_from_every_table(own_day: Filled) -> None:
    db = own_day.owner
    writer = Writer(db)
    writer.write([batch_of([letter("whose", b'{"tenant_id": "acme"', tenant="")])])
    writer.close()
    if own_day.timescale:
        compressed(own_day)
    others = {table: [row for row in rows if "acme" not in row] for table, rows in whole(db).items()}
    told = erase_tenant(db, "acme")
    assert {touched.table for touched in told} >= {*WITH_USERS, *SOURCES, "dead_letters", "attune_analysts"}
    assert naming(db, "acme") == {}
    after = whole(db)
    for table, rows in others.items():
        # A sum that is worked out again may differ in its last bits.
        assert len(after[table]) == len(rows) if table in SOURCES else sorted(after[table]) == sorted(rows), table
    assert erase_tenant(db, "acme") == []
    refresh(db)
    assert naming(db, "acme") == {}


def test_sums_of_rows_that_have_gone_by_age_go_with_the_tenant(own_day: Filled) -> None:
    db = own_day.owner
    if own_day.timescale:
        do(db, "SELECT drop_chunks('engagement_metrics', older_than => now())")
    else:
        do(db, "SET attune.expiring = 'on'; DELETE FROM engagement_metrics")
    refresh(db)
    assert naming(db, "acme")["engagement_hours"] > 0
    erase_tenant(db, "acme")
    refresh(db)
    assert naming(db, "acme") == {}


@settings(max_examples=60, deadline=None)
@given(
    who=st.text(min_size=1, max_size=12).filter(lambda text: "\0" not in text),
    wrap=st.sampled_from(["value", "key", "list", "ascii", "cut", "bytes"]),
)
def test_a_dead_letter_that_names_somebody_is_found(day: Filled, who: str, wrap: str) -> None:
    payload = {
        "value": lambda: msgspec.json.encode({"user_id": who}),
        "key": lambda: msgspec.json.encode({who: 1}),
        "list": lambda: msgspec.json.encode([[who]]),
        "ascii": lambda: json.dumps({"user_id": who}).encode(),
        "cut": lambda: msgspec.json.encode({"user_id": who})[:-1],
        "bytes": lambda: b"\xff" + msgspec.json.encode({"user_id": who}),
    }[wrap]()
    made = letter("x", payload)
    query = "SELECT attune_mentions(%s, %s, %s), attune_mentions(%s, %s, %s)"
    values = [made.payload, made.encoding, who, made.payload, made.encoding, who + "x"]
    with psycopg.connect(day.owner) as connection:
        assert connection.execute(query, values).fetchone() == (True, False)


def test_there_is_a_user_in_the_day_who_is_alone() -> None:
    """What the tests above rest on."""
    assert any(isinstance(record, Engagement) and record.signals.connected_users == 1 for record in DAY.records())
