"""Rows arrive whole, once, and what can't be stored is set aside without holding up the rest."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from flows.local.postgres import LocalPostgres
from schemas.batches import Records
from schemas.errors import ConfigError, TerminalError, TransientError
from schemas.outbound import DeadLetter, Record, Signals
from schemas.registry import OUTBOUND
from sinks.postgres import Writer, Written
from sinks.postgres.retry import until_done
from sinks.postgres.rows import TABLES, Kind, Table
from tests.fix_postgres import ask, batch_of, do
from tests.postgres_records import dead_letter, decision, engagement, intervention
from tests.schemas.strategies import structs

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TOO_MUCH = Signals(2**63, 1, 1, 1, 0.1, 0.1, 0.1)


@pytest.fixture
def writer(db: str) -> Any:
    writer = Writer(db)
    yield writer
    writer.close()


def at(ts: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ts)


def rebuilt(table: Table, row: tuple[Any, ...]) -> Record:
    """Return the record that a row says, by the columns' paths: the way back, which the sink itself never goes."""
    fields: dict[str, Any] = {}
    for column, value in zip(table.columns, row, strict=True):
        *outer, name = column.path.split(".")
        inside = fields
        for part in outer:
            inside = inside.setdefault(part, {})
        timed = column.kind is Kind.TIME and value is not None
        inside[name] = (value - EPOCH) // timedelta(milliseconds=1) if timed else value
    record: Record = msgspec.convert({"type": table.kind, **fields}, table.struct)
    return record


def letters(written: Written) -> list[DeadLetter]:
    assert len(written.refused) == len(written.refused.payloads)
    return [msgspec.json.decode(payload, type=DeadLetter) for payload in written.refused.payloads]


@pytest.mark.parametrize("kind", OUTBOUND)
def test_every_field_of_every_type_comes_back(db: str, writer: Writer, kind: str) -> None:
    table = TABLES[kind]
    columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    select = sql.SQL("SELECT {} FROM {}").format(columns, sql.Identifier(table.name))
    empty = sql.SQL("DELETE FROM {}").format(sql.Identifier(table.name))

    with psycopg.connect(db, autocommit=True) as connection:

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(structs(table.struct))
        def check(record: Record) -> None:
            written = writer.write([batch_of([record])])
            assert (written.rows, len(written.refused)) == ({table.name: 1}, 0)
            (row,) = connection.execute(select)
            assert rebuilt(table, row) == record
            assert row[3] == at(record.ts)
            connection.execute(empty)

        check()


def test_a_batch_may_hold_several_types(db: str, writer: Writer) -> None:
    written = writer.write([batch_of([engagement(1)]), batch_of([decision(1, "yes")]), batch_of([engagement(2)])])
    assert written.rows == {"engagement_metrics": 2, "orchestrator_decisions": 1}
    assert ask(db, "SELECT count(*) FROM engagement_metrics") == [(2,)]


def test_a_repeat_changes_nothing_and_leaves_no_dead_rows(db: str, writer: Writer) -> None:
    batch = [batch_of([engagement(n) for n in range(50)])]
    writer.write(batch)
    before = ask(db, "SELECT ctid::text, * FROM engagement_metrics ORDER BY id")
    assert writer.write(batch).total == 50
    assert ask(db, "SELECT ctid::text, * FROM engagement_metrics ORDER BY id") == before


def test_another_content_for_the_same_key_replaces_it(db: str, writer: Writer) -> None:
    writer.write([batch_of([engagement(1, score=0.25)])])
    writer.write([batch_of([engagement(1, score=0.75)])])
    assert ask(db, "SELECT score FROM engagement_metrics") == [(0.75,)]


def test_of_duplicates_in_a_batch_the_last_wins(db: str, writer: Writer) -> None:
    first = [engagement(1, score=0.1), engagement(2), engagement(1, score=0.2)]
    written = writer.write([batch_of(first), batch_of([engagement(1, score=0.3)])])
    assert (written.total, len(written.refused)) == (4, 0)
    assert ask(db, "SELECT score FROM engagement_metrics ORDER BY ts") == [(0.3,), (0.002,)]


def test_the_ledger_keeps_every_revision(db: str, writer: Writer) -> None:
    writer.write([batch_of([intervention(0, "pending"), intervention(1, "fired")])])
    writer.write([batch_of([intervention(1, "fired"), intervention(2, "expired")])])
    found = ask(db, "SELECT revision, status FROM interventions ORDER BY revision")
    assert found == [(0, "pending"), (1, "fired"), (2, "expired")]


def test_refused_rows_are_set_aside_and_the_rest_is_written(db: str, writer: Writer) -> None:
    good = [engagement(n) for n in range(100)]
    mixed: list[Record] = [*good[:30], engagement(500, signals=TOO_MUCH), *good[30:], engagement(501, signals=TOO_MUCH)]
    nul, fine = decision(1, "before \0 after"), decision(2, "fine")
    written = writer.write([batch_of(mixed), batch_of([nul, fine])])

    assert written.rows == {"engagement_metrics": 100, "orchestrator_decisions": 1}
    assert written.total + len(written.refused) == 104
    assert ask(db, "SELECT count(*) FROM engagement_metrics") == [(100,)]
    assert ask(db, "SELECT id FROM orchestrator_decisions") == [("decision/2",)]

    found = letters(written)
    assert {letter.reason for letter in found} == {"refused_by_database"}
    assert [letter.detail.field for letter in found] == ["signals.chat_per_min"] * 2 + ["answer"]
    assert found[2].detail.expected == "text without NUL"
    assert found[2].topic == "attune.decisions.v1"
    assert msgspec.json.decode(found[2].payload, type=type(nul)) == nul
    assert {letter.id for letter in found} == {row[0] for row in ask(db, "SELECT id FROM dead_letters")}
    assert letters(writer.write([batch_of([nul])])) == [found[2]], "the same record gives the same dead letter"
    assert ask(db, "SELECT count(*) FROM dead_letters") == [(3,)]


@pytest.mark.parametrize(
    "statement, told",
    [
        ("ALTER TABLE engagement_metrics ADD CONSTRAINT ours CHECK (chat_per_min < 7)", "ours"),
        ("CREATE UNIQUE INDEX ours ON engagement_metrics (ts, chat_per_min) WHERE chat_per_min = 7", "ours"),
    ],
    ids=["check", "unique"],
)
def test_constraints_of_the_operator_are_obeyed(db: str, writer: Writer, statement: str, told: str) -> None:
    do(db, statement, "DROP SCHEMA analytics CASCADE")
    rows = [engagement(n, ts=1_790_000_000_000, signals=Signals(min(n, 7), 1, 1, 1, 0.1, 0.1, 0.1)) for n in range(9)]
    written = writer.write([batch_of(rows)])
    assert written.total + len(written.refused) == 9
    assert all(told in letter.detail.field for letter in letters(written))
    assert 1 <= len(written.refused) <= 2
    assert ask(db, "SELECT count(*) FROM engagement_metrics") == [(written.total,)]


LITTLE_MEMORY = """
CREATE FUNCTION refuse_many() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM fresh) > 20 THEN
        RAISE EXCEPTION 'out of shared memory' USING ERRCODE = '53200';
    END IF;
    RETURN NULL;
END
$$
"""


@pytest.mark.parametrize("together", [True, False], ids=["one list", "many lists"])
def test_what_is_too_much_at_once_is_written_in_parts(db: str, writer: Writer, together: bool) -> None:
    trigger = "AFTER INSERT ON engagement_metrics REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT"
    do(db, LITTLE_MEMORY, f"CREATE TRIGGER little_memory {trigger} EXECUTE FUNCTION refuse_many()")
    rows = [*(engagement(n) for n in range(100)), engagement(99, score=0.5), engagement(500, signals=TOO_MUCH)]
    lists = [batch_of(rows)] if together else [batch_of([row]) for row in rows]
    written = writer.write([batch_of([decision(1, "\0")]), *lists])
    assert written.rows == {"engagement_metrics": 101}
    assert {letter.detail.field for letter in letters(written)} == {"signals.chat_per_min", "answer"}
    assert len(written.refused) == 2
    found = ask(db, "SELECT chat_per_min, score FROM engagement_metrics ORDER BY ts")
    assert [number for number, _ in found] == list(range(100))
    assert found[-1] == (99, 0.5), "of duplicates the last wins"


def test_a_single_row_that_is_too_much_is_tried_again(db: str, writer: Writer) -> None:
    trigger = "AFTER INSERT ON engagement_metrics REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT"
    function = LITTLE_MEMORY.replace("> 20", "> 0")
    do(db, function, f"CREATE TRIGGER little_memory {trigger} EXECUTE FUNCTION refuse_many()")
    with pytest.raises(TransientError, match="53200"):
        writer.write([batch_of([engagement(n) for n in range(3)])])
    do(db, "DROP TRIGGER little_memory ON engagement_metrics")
    assert writer.write([batch_of([engagement(n) for n in range(3)])]).total == 3


def test_an_id_too_long_for_the_index_is_refused(db: str, writer: Writer) -> None:
    long = "".join(chr(0x10000 + 37 * n) for n in range(1024))
    (letter,) = letters(writer.write([batch_of([engagement(1, id=long, tenant_id=long, session_id=long)])]))
    assert "54000" in letter.detail.got
    assert letter.tenant_id == long[:128]
    assert ask(db, "SELECT count(*) FROM dead_letters") == [(1,)]


@pytest.mark.parametrize(
    "payload, reason, where",
    [
        (b"{", "malformed_json", ""),
        (b'{"id": "\xff"}', "malformed_json", ""),
        (b'{"type": "emotion", "id": "e"}', "invalid_field", "type"),
        (b'{"type": "engagement", "id": 7}', "invalid_field", "id"),
        (b"[1]", "invalid_field", ""),
    ],
)
def test_a_payload_that_is_no_record_is_set_aside(
    db: str, writer: Writer, payload: bytes, reason: str, where: str
) -> None:
    good = batch_of([engagement(1)])
    bad = Records("engagement", ["x"], ["t\0"], ["s" * 500], [-5], [payload])
    written = writer.write([bad, good])
    assert written.rows == {"engagement_metrics": 1}
    (letter,) = letters(written)
    assert (letter.reason, letter.detail.field) == (reason, where)
    assert (letter.tenant_id, letter.session_id, letter.ts) == ("t\ufffd", "s" * 128, 0)
    assert ask(db, "SELECT reason FROM dead_letters") == [(reason,)]


def test_dead_letters_with_nul_are_stored_readably(db: str, writer: Writer) -> None:
    written = writer.write([batch_of([dead_letter("a\0b", got="c\0d", tenant="e\0f")])])
    assert (written.total, len(written.refused)) == (1, 0)
    assert ask(db, "SELECT payload, encoding, detail_got, tenant_id FROM dead_letters") == [
        ("YQBi", "base64", "c\ufffdd", "e\ufffdf")
    ]


def test_a_long_payload_is_cut_at_a_character(db: str, writer: Writer) -> None:
    answer = "\0" + "é" * 40_000
    (letter,) = letters(writer.write([batch_of([decision(1, answer)])]))
    assert 65_530 <= len(letter.payload.encode()) <= 65_536
    assert letter.encoding is None


def test_a_batch_of_nothing_but_refused_rows_ends(db: str, writer: Writer) -> None:
    written = writer.write([batch_of([decision(n, "\0") for n in range(300)])])
    assert (written.rows, len(written.refused)) == ({}, 300)
    assert ask(db, "SELECT count(*) FROM dead_letters") == [(300,)]


def test_a_dead_letter_may_come_back_beside_what_it_is_about(db: str, writer: Writer) -> None:
    refused = batch_of([decision(1, "\0")])
    (letter,) = letters(writer.write([refused]))
    written = writer.write([batch_of([letter]), refused])
    assert (written.rows, len(written.refused)) == ({"dead_letters": 1}, 1)
    assert ask(db, "SELECT id FROM dead_letters") == [(letter.id,)]


def test_when_even_the_dead_letter_is_refused_it_is_no_secret(db: str, writer: Writer) -> None:
    do(db, "ALTER TABLE dead_letters ADD CONSTRAINT ours CHECK (reason <> 'refused_by_database')")
    with pytest.raises(TerminalError, match="refuses the dead letter of a refused row"):
        writer.write([batch_of([engagement(1)]), batch_of([decision(1, "\0")])])
    assert ask(db, "SELECT count(*) FROM engagement_metrics") == [(0,)], "all or nothing"


def test_a_type_without_a_table_is_a_fault_in_the_wiring(writer: Writer) -> None:
    with pytest.raises(TerminalError, match="no table is known for records of type"):
        writer.write([Records("chat.message", ["x"], ["t"], ["s"], [0], [b"{}"])])


def test_a_table_that_vanishes_is_told(db: str, writer: Writer) -> None:
    writer.write([batch_of([engagement(1)])])
    do(db, "DROP TABLE engagement_metrics CASCADE")
    with pytest.raises(TerminalError, match="run `attune db migrate`"):
        writer.write([batch_of([engagement(2)])])


def test_an_unprepared_database_is_told_at_the_first_write(empty_db: str) -> None:
    with pytest.raises(TerminalError, match=r"lacks 0001_engagement\.sql"):
        Writer(empty_db).write([batch_of([engagement(1)])])


def wait_for(conninfo: str, query: str) -> Any:
    """Return the first row of a query once it has one."""
    deadline = datetime.now(UTC) + timedelta(seconds=60)
    while datetime.now(UTC) < deadline:
        if rows := ask(conninfo, query):
            return rows[0]
        threading.Event().wait(0.02)
    raise AssertionError(f"never true: {query}")


BLOCKED = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def test_a_connection_killed_in_the_middle_of_a_batch_loses_nothing(db: str, writer: Writer) -> None:
    writer.write([batch_of([engagement(0)])])
    batch = [batch_of([engagement(n) for n in range(200)])]
    with ThreadPoolExecutor() as pool, psycopg.connect(db) as lock:
        lock.execute("LOCK TABLE engagement_metrics IN EXCLUSIVE MODE")
        broken = pool.submit(writer.write, batch)
        (pid,) = wait_for(db, BLOCKED)
        lock.execute("SELECT pg_terminate_backend(%s)", [pid])
        with pytest.raises(TransientError, match="57P01"):
            broken.result(timeout=60)
    assert until_done(lambda: writer.write(batch), threading.Event()).total == 200
    assert ask(db, "SELECT count(*) FROM engagement_metrics") == [(200,)]


def test_a_lock_held_for_too_long_is_waited_out(db: str) -> None:
    writer = Writer(db, statement_timeout_s=0.2)
    with psycopg.connect(db) as lock:
        lock.execute("LOCK TABLE engagement_metrics IN EXCLUSIVE MODE")
        with pytest.raises(TransientError, match="57014"):
            writer.write([batch_of([engagement(1)])])
    assert writer.write([batch_of([engagement(1)])]).total == 1
    writer.close()


def test_writers_of_the_same_keys_do_not_deadlock(db: str) -> None:
    rows: list[Record] = [engagement(n) for n in range(300)]
    more: list[Record] = [decision(n, "yes") for n in range(300)]

    def write(turn: int) -> int:
        writer = Writer(db)
        total = 0
        for number in range(15):
            score = (turn + number) / 100
            records = [msgspec.structs.replace(row, score=score) for row in rows]
            decisions = [msgspec.structs.replace(row, confidence=score) for row in more]
            batch = [batch_of(records), batch_of(decisions)]
            if turn:
                batch = [batch_of(decisions[::-1]), batch_of(records[::-1])]
            total += writer.write(batch).total  # a deadlock would be a TransientError
        writer.close()
        return total

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(write, range(2))) == [9000, 9000]
    assert ask(db, "SELECT count(*) FROM engagement_metrics") == [(300,)]


def test_an_outage_in_the_middle_loses_nothing_and_doubles_nothing(stoppable: LocalPostgres) -> None:
    batches = [[batch_of([engagement(100 * b + n) for n in range(100)])] for b in range(30)]
    passed, resume = threading.Event(), threading.Event()

    def write_all() -> int:
        writer = Writer(stoppable.conninfo)
        total = 0
        for number, batch in enumerate(batches):
            if number == 10:
                passed.set()
                resume.wait(60)
            total += until_done(partial(writer.write, batch), threading.Event()).total
        writer.close()
        return total

    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write_all)
        assert passed.wait(60)
        stoppable.stop()
        resume.set()
        with pytest.raises((TransientError, ConfigError)):
            Writer(stoppable.conninfo).connect()
        stoppable.start()
        assert writing.result(timeout=60) == 3000
    found = ask(stoppable.conninfo, "SELECT chat_per_min FROM engagement_metrics ORDER BY ts")
    assert found == [(n,) for n in range(3000)]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(bad=st.sets(st.integers(0, 39)))
def test_exactly_the_bad_rows_are_refused(db: str, bad: set[int]) -> None:
    writer = Writer(db)
    rows = [decision(n, "\0" if n in bad else "fine") for n in range(40)]
    written = writer.write([batch_of(rows)])
    writer.close()
    refused = {msgspec.json.decode(letter.payload)["id"] for letter in letters(written)}
    assert refused == {f"decision/{n}" for n in bad}
    assert written.total == 40 - len(bad)
    assert ask(db, "SELECT count(*) FROM orchestrator_decisions") == [(40 - len(bad),)]
    do(db, "DELETE FROM orchestrator_decisions")
