"""Chat through the whole flow: one decision for an answer, the same with any workers and batches, and killed."""

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main
from prometheus_client import REGISTRY

from flows.conductor import ConductorConfig, build
from flows.replay import replay
from operators.chat.answers import Answers, ChatConfig
from operators.chat.config import Policies
from schemas.batches import END_OF_TIME, RawBatch, Records
from schemas.outbound import AnyRecord, Calibration, Decision, HandoffRequested, Record
from tests.compare import decoded
from tests.events import batches, record
from tests.live_log import live_event_log
from tests.model import LogRecord
from tests.operators.chat_events import HUMAN, NOON, PHRASES, Chat, ask, log, resolved

TOPICS = ("attune.decisions.v1", "attune.handoffs.v1", "attune.calibration.v1")
STRICT = ChatConfig(
    Policies(overrides={"t0": {"routing": {"limits": {"a_day": 1, "a_week": 2, "zone": "Asia/Tokyo"}}}})
)
CONFIG = ConductorConfig(chat=STRICT)


@pytest.fixture
def events() -> list[Chat]:
    """Conversations of two tenants over some weeks, with repeats."""
    return log(seed=5, count=400)


def mixed(events: Sequence[Chat]) -> list[tuple[int, bytes]]:
    """Return the events' lines, a live event's strewn in after the first of them, each with its ``ts``."""
    live = [entry.raw or b"" for entry in live_event_log(1, people=10, minutes=5, start=NOON)]
    lines = [(event.ts, msgspec.json.encode(event)) for event in events]
    return [*lines[:20], *((json.loads(raw)["ts"], raw) for raw in live), *lines[20:]]


def expected(lines: Iterable[tuple[int, bytes]], chats: Sequence[Chat]) -> list[Record]:
    """Return what the core alone says, told of every record's stream time."""
    known = {msgspec.json.encode(event): event for event in chats}
    answers, stream_time, told = Answers(STRICT, PHRASES), 0, []
    for ts, raw in lines:
        stream_time = max(stream_time, ts)
        told += answers.feed(known[raw], stream_time) if raw in known else answers.advance(stream_time)
    return told + answers.advance(END_OF_TIME)


def written(path: Path, lines: Iterable[tuple[int, bytes]]) -> str:
    path.write_bytes(b"".join(raw + b"\n" for _, raw in lines))
    return str(path)


def output(folder: Path) -> dict[str, bytes]:
    return {topic: (folder / f"{topic}.jsonl").read_bytes() for topic in TOPICS}


def in_order(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (record.ts, record.id))


def test_the_flow_says_what_the_core_says(events: list[Chat], tmp_path: Path) -> None:
    lines = mixed(events)
    replay([written(tmp_path / "log.jsonl", lines)], tmp_path / "out", config=CONFIG)
    decoder = msgspec.json.Decoder(AnyRecord)
    found = [decoder.decode(line) for text in output(tmp_path / "out").values() for line in text.splitlines()]
    assert in_order(found) == in_order(expected(lines, events))
    assert {type(one) for one in found} == {Decision, HandoffRequested, Calibration}
    assert {one.reason for one in found if isinstance(one, Decision)} >= {"already_with_human", "limit_week"}


def test_workers_and_shards_do_not_matter(events: list[Chat], tmp_path: Path) -> None:
    lines = mixed(events)
    whole = written(tmp_path / "whole.jsonl", lines)
    replay([whole], tmp_path / "one", config=CONFIG)
    replay([whole], tmp_path / "two", workers=2, config=CONFIG)
    replay([whole], tmp_path / "three", workers=2, config=ConductorConfig(chat=STRICT, shards=7))
    wanted = output(tmp_path / "one")
    assert all(wanted.values())
    assert output(tmp_path / "two") == output(tmp_path / "three") == wanted


def raw_batches(lines: Sequence[tuple[int, bytes]], size: int) -> list[RawBatch]:
    return batches([numbered(i, ts, raw) for i, (ts, raw) in enumerate(lines)], [size])


def numbered(offset: int, ts: int, raw: bytes) -> LogRecord:
    return record(raw, ts, "platform.events.chat.answer.v1", offset)


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_killed_and_resumed_every_answer_is_decided_once(events: list[Chat], size: int, tmp_path: Path) -> None:
    """The engine is cut off again and again; what it says twice it says in the same words."""
    lines = mixed(events)[:250]
    handed: list[RawBatch | TestingSource.ABORT] = []
    for number, batch in enumerate(raw_batches(lines, size)):
        handed.append(batch)
        if number % max(2, 50 // size) == 1:
            handed.append(TestingSource.ABORT())
    init_db_dir(tmp_path, 1)
    said: list[tuple[str, Records]] = []
    flow = build(CONFIG, TestingSource(handed), {"said": TestingSink(said)})
    recovery = RecoveryConfig(str(tmp_path))
    for _ in range(sum(isinstance(one, TestingSource.ABORT) for one in handed) + 1):
        run_main(flow, epoch_interval=timedelta(0), recovery_config=recovery)
    found: dict[str, Record] = {}
    for one in decoded(batch for _, batch in said):
        assert found.setdefault(one.id, one) == one
    wanted = {one.id: one for one in expected(lines, events)}
    ours = {name: one for name, one in found.items() if isinstance(one, Decision | HandoffRequested | Calibration)}
    assert ours == wanted


def test_received_is_used_plus_set_aside(tmp_path: Path) -> None:
    chats: list[Chat] = [ask(HUMAN, NOON), ask(HUMAN, NOON), ask("price?", NOON + 1), resolved(NOON + 2)]
    lines = [(event.ts, msgspec.json.encode(event)) for event in [*chats, resolved(NOON + 3), resolved(NOON + 3)]]
    lines += [(NOON + 4, b"{"), (NOON + 4, lines[0][1].replace(b'"c"', b'""'))]
    lines += [(json.loads(raw)["ts"], raw) for raw in (e.raw or b"" for e in live_event_log(2, 5, 3, start=NOON))]
    before = counted()
    replay([written(tmp_path / "log.jsonl", lines)], tmp_path / "out")
    grown = {name: value - before[name] for name, value in counted().items()}
    assert grown["records_received"] == len(lines)
    assert grown["dead_letters"] == 2
    used = grown["events_accepted"] + grown["records_unwindowed"]
    assert used + grown["dead_letters"] == grown["records_received"]
    ended = ("decisions", "chat_repeated", "handoffs_resolved", "handoffs_unmatched")
    assert [grown[name] for name in ended] == [2, 2, 1, 1]
    assert grown["records_unwindowed"] == 6


def counted() -> dict[str, float]:
    whole = ("records_received", "events_accepted", "records_unwindowed", "dead_letters")
    of_chat = ("decisions", "chat_repeated", "handoffs_resolved", "handoffs_unmatched")
    found = dict.fromkeys((*whole, *of_chat), 0.0)
    for metric in REGISTRY.collect():
        name = metric.name.removeprefix("attune_")
        if name in found:
            found[name] = sum(sample.value for sample in metric.samples if sample.name.endswith("_total"))
    return found
