"""A replay gives the same bytes with one worker and two, in order or shuffled within the lateness: the right ones."""

import gzip
import hashlib
import itertools
import json
from pathlib import Path
from random import Random

import msgspec
import pytest

from flows.conductor import ConductorConfig
from flows.replay import replay
from operators.config import ScoreConfig
from schemas.errors import AttuneError, ConfigError
from schemas.outbound import AnyRecord, DeadLetter, Engagement, SessionSummary
from schemas.registry import INBOUND_TOPICS, OUTBOUND_TOPICS
from tests.compare import assert_same_records
from tests.live_log import live_event_log
from tests.model import LogRecord, reference
from tests.strategies import interleave, random_log, shuffle_within_lateness


def write(path: Path, lines: list[bytes]) -> str:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)


def output(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def raws(log: list[LogRecord]) -> list[bytes]:
    return [record.raw or b"" for record in log]


@pytest.fixture
def log() -> list[LogRecord]:
    events = [live_event_log(seed, people=12, minutes=8, session=f"event-{seed}") for seed in range(6)]
    return interleave(*events)


def test_workers_order_and_batches_do_not_matter(log: list[LogRecord], tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.jsonl", raws(log))
    shuffled = write(tmp_path / "shuffled.jsonl", raws(shuffle_within_lateness(log, Random(1))))
    replay([plain], tmp_path / "one")
    replay([plain], tmp_path / "two", workers=2)
    replay([shuffled], tmp_path / "three", workers=2, config=ConductorConfig(shards=3))
    wanted = output(tmp_path / "one")
    assert sorted(wanted) == sorted(f"{topic}.jsonl" for topic in OUTBOUND_TOPICS)
    assert wanted["attune.engagement.v1.jsonl"].count(b"\n") > 500
    assert output(tmp_path / "two") == wanted
    assert output(tmp_path / "three") == wanted


def test_it_says_what_the_reference_says(log: list[LogRecord], tmp_path: Path) -> None:
    replay([write(tmp_path / "log.jsonl", raws(log))], tmp_path / "out")
    expected = reference([record._replace(record_ts=json.loads(record.raw or b"")["ts"]) for record in log])
    scored = [record for record in told(tmp_path / "out") if isinstance(record, Engagement | SessionSummary)]
    assert_same_records([*expected.engagement, *expected.sessions], scored)


def told(folder: Path) -> list[AnyRecord]:
    decoder = msgspec.json.Decoder(AnyRecord)
    return [decoder.decode(line) for path in sorted(folder.iterdir()) for line in path.read_bytes().splitlines()]


def test_records_are_in_order(log: list[LogRecord], tmp_path: Path) -> None:
    replay([write(tmp_path / "log.jsonl", raws(log))], tmp_path / "out", workers=2)
    for path in (tmp_path / "out").iterdir():
        keys = [(record["ts"], record["id"]) for record in map(json.loads, path.read_bytes().splitlines())]
        assert keys == sorted(keys)


def test_several_files_are_merged_by_time(log: list[LogRecord], tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.jsonl", raws(log))
    parts = [write(tmp_path / f"{i}.jsonl", raws(log)[i::3]) for i in range(3)]
    with gzip.open(tmp_path / "0.jsonl.gz", "wb") as file:
        file.write(Path(parts[0]).read_bytes())
    replay([whole], tmp_path / "one")
    replay([str(tmp_path / "0.jsonl.gz"), *parts[1:]], tmp_path / "two")
    assert output(tmp_path / "one") == output(tmp_path / "two")


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_in_the_file_is_used_or_set_aside(seed: int, tmp_path: Path) -> None:
    lines = [raw for raw in raws(random_log(seed, 400)) if b"\n" not in raw and not raw.endswith(b"\r")]
    path = write(tmp_path / "odd.jsonl", lines)
    report = replay([path], tmp_path / "one", workers=1)
    replay([path], tmp_path / "two", workers=2)
    assert report.received == len(lines)
    assert output(tmp_path / "one") == output(tmp_path / "two")
    dead = [record for record in told(tmp_path / "one") if isinstance(record, DeadLetter)]
    assert dead
    assert len({record.offset for record in dead}) == len(dead)
    for record in dead:
        assert (record.topic, record.partition) == (path, 0)
        if record.encoding is None and len(lines[record.offset - 1]) <= 65_536:
            assert record.payload.encode() == lines[record.offset - 1]


def test_a_time_far_ahead_is_early_and_moves_no_clock(log: list[LogRecord], tmp_path: Path) -> None:
    lines = raws(log)
    ahead = json.loads(lines[50]) | {"ts": 32_503_680_000_000, "event_id": "year 3000"}
    plain = write(tmp_path / "plain.jsonl", lines)
    odd = write(tmp_path / "odd.jsonl", [*lines[:50], json.dumps(ahead).encode(), *lines[50:]])
    replay([plain], tmp_path / "one")
    replay([odd], tmp_path / "two")
    letters = "attune.deadletters.v1.jsonl"
    one, two = output(tmp_path / "one"), output(tmp_path / "two")
    (letter,) = [json.loads(line) for line in two.pop(letters).splitlines()]
    assert (letter["reason"], letter["offset"]) == ("early", 51)
    assert {name: body for name, body in one.items() if name != letters} == two


def test_on_change_tells_less_and_nothing_else(log: list[LogRecord], tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", raws(log))
    sparse = ConductorConfig(score=ScoreConfig(emit="on_change", min_delta=0.05))
    replay([path], tmp_path / "all")
    replay([path], tmp_path / "some", config=sparse)
    replay([path], tmp_path / "two", workers=2, config=ConductorConfig(score=sparse.score, shards=2))
    assert output(tmp_path / "some") == output(tmp_path / "two")
    name = "attune.engagement.v1.jsonl"
    every = [json.loads(line) for line in output(tmp_path / "all")[name].splitlines()]
    some = {record["id"] for record in map(json.loads, output(tmp_path / "some")[name].splitlines())}
    every.sort(key=lambda record: (record["session_id"], record["session_start"], record["ts"]))
    for _, ticks in itertools.groupby(every, lambda record: (record["session_id"], record["session_start"])):
        last = None
        for tick in ticks:
            due = last is None or abs(tick["score"] - last["score"]) >= 0.05 or tick["ts"] - last["ts"] >= 60_000
            empty = tick["signals"]["connected_users"] == 0 and tick["ts"] - last["ts"] > 0 if last else False
            assert (tick["id"] in some) >= due
            if tick["id"] in some:
                assert due or empty
                last = tick


def test_odd_file_names_and_damage(tmp_path: Path) -> None:
    odd = write(tmp_path / "two\nlines.jsonl", [b"{"])
    replay([odd], tmp_path / "out")
    (letter,) = [record for record in told(tmp_path / "out") if isinstance(record, DeadLetter)]
    assert letter.topic.endswith("two\\x0alines.jsonl")
    damaged = bytearray(gzip.compress(Random(1).randbytes(50_000)))
    damaged[60:64] = b"\xff\xff\xff\xff"
    (tmp_path / "damaged.jsonl.gz").write_bytes(damaged)
    with pytest.raises(AttuneError, match=r"damaged\.jsonl\.gz: reading stopped"):
        replay([str(tmp_path / "damaged.jsonl.gz")], tmp_path / "out")
    with pytest.raises(ConfigError, match="once only"):
        replay(["-", "-"], tmp_path / "out")


def test_what_can_not_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.jsonl: cannot be read"):
        replay([str(tmp_path / "missing.jsonl")], tmp_path / "out")
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes(gzip.compress(b"x" * 100_000)[:60])
    with pytest.raises(AttuneError, match=r"torn\.jsonl\.gz: reading stopped"):
        replay([str(torn)], tmp_path / "out")
    assert not (tmp_path / "out" / ".runs").exists()


@pytest.mark.timeout(900)
def test_recorded_traffic(recorded: list[Path], tmp_path: Path) -> None:
    """The three recorded logs: one worker, two workers, shuffled; and a sample against the reference."""
    paths = [str(path) for path in recorded]
    replay(paths, tmp_path / "one")
    replay(paths, tmp_path / "two", workers=2)
    wanted = digests(tmp_path / "one")
    assert digests(tmp_path / "two") == wanted
    for path in (tmp_path / "two").iterdir():
        path.unlink()
    logs = [gzip.decompress(path.read_bytes()).splitlines() for path in recorded]
    shuffled = [write(tmp_path / f"{i}.jsonl", shuffle_lines(lines, Random(i))) for i, lines in enumerate(logs)]
    replay(shuffled, tmp_path / "two", workers=2)
    assert digests(tmp_path / "two") == wanted
    sample = sorted((line for lines in logs for line in sample_of(lines)), key=lambda line: json.loads(line)["ts"])
    log = [LogRecord(json.loads(line)["ts"], INBOUND_TOPICS[0], 0, i, line) for i, line in enumerate(sample)]
    # The sample is the beginning of its sessions: ticks up to its last event of each can be compared.
    until = {(event := json.loads(line))["session_id"]: event["ts"] for line in sample}
    expected = [record for record in reference(log).engagement if record.ts <= until[record.session_id]]
    assert len(expected) > 5_000
    actual = [record for record in records_of(tmp_path / "one", set(until)) if record.ts <= until[record.session_id]]
    assert_same_records(expected, [record for record in actual if isinstance(record, Engagement)])


def digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def records_of(folder: Path, sessions: set[str]) -> list[AnyRecord]:
    """Return the records of some sessions, without decoding the others."""
    decoder = msgspec.json.Decoder(AnyRecord)
    marks = tuple(f'"session_id":"{name}"'.encode() for name in sessions)
    found = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            found += [decoder.decode(line) for line in file if any(mark in line for mark in marks)]
    return found


def sample_of(lines: list[bytes]) -> list[bytes]:
    """Return the first 150 events of each of a dozen of a log's sessions."""
    by_session: dict[str, list[bytes]] = {}
    for line in lines:
        by_session.setdefault(json.loads(line)["session_id"], []).append(line)
    names = sorted(by_session, key=lambda name: len(by_session[name]))
    return [line for name in names[:: max(1, len(names) // 12)] for line in by_session[name][:150]]


def shuffle_lines(lines: list[bytes], rng: Random) -> list[bytes]:
    """Return the lines in an order in which none comes after one whose ``ts`` is more than 2 s greater."""
    keyed = [(json.loads(line)["ts"] + rng.uniform(0, 2_000), line) for line in lines]
    return [line for _, line in sorted(keyed, key=lambda pair: pair[0])]
