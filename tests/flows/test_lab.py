"""The lab: deterministic, valid; its noise-free course is the mean of what is counted; its labels keep their word."""

import io
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from flows.cli import app
from flows.generate import SCENARIOS, Plan
from flows.generate.lab.acts import Names, draw_cues, events
from flows.generate.lab.episodes import Episode, LabSession, LabTruth
from flows.generate.lab.expectation import TICK_MS, WINDOW_MS, course
from flows.generate.lab.falls import noise_of_mean
from flows.generate.lab.kinds import KINDS, MIX, Wish, draw_room
from flows.generate.lab.labels import TYPES
from flows.generate.lab.room import Room
from flows.generate.lab.saturated import term
from flows.generate.lab.traffic import LabTraffic
from flows.generate.write import Lines, batches
from schemas import inbound
from schemas.inbound import AnyEvent
from schemas.registry import type_of
from tests import model
from tests.model_input import Event

SMALL = Plan(sessions=len(MIX), people=12, minutes=4, seed=3, tenants=2)
START = 1_700_000_002_345
HEALTHY = [name for name, kind in KINDS.items() if not kind.troubled]


def lines(plan: Plan) -> bytes:
    stream = io.BytesIO()
    to = Lines(stream)
    for batch in batches(LabTraffic(plan).events()):
        to.send(batch)
    return stream.getvalue()


def played(traffic: LabTraffic) -> tuple[list[inbound.Event], LabTruth]:
    return list(traffic.events()), traffic.truth()


def test_the_same_plan_gives_the_same_bytes_and_labels_and_another_seed_others() -> None:
    assert lines(SMALL) == lines(SMALL)
    assert lines(SMALL) != lines(Plan(len(MIX), 12, 4, seed=4, tenants=2))
    assert played(LabTraffic(SMALL))[1] == played(LabTraffic(SMALL))[1]


def test_labels_cost_no_event_and_a_session_does_not_depend_on_the_others() -> None:
    assert lines(SMALL) == lines(Plan(len(MIX), 12, 4, 3, 2, truth=False))
    alone = list(LabTraffic(Plan(1, 12, 4, 3, 2)).events())
    first = [e for e in LabTraffic(SMALL).events() if e.session_id == alone[0].session_id]
    assert first == alone


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    people=st.integers(1, 30),
    minutes=st.floats(0.1, 5),
    seed=st.integers(),
    rate=st.floats(0, 5),
)
def test_events_are_valid_in_order_and_unique(kind: str, people: int, minutes: float, seed: int, rate: float) -> None:
    traffic = LabTraffic(Plan(2, people, minutes, seed, rate=rate), kind)
    found, truth = played(traffic)
    decoder = msgspec.json.Decoder(AnyEvent)
    assert [decoder.decode(msgspec.json.encode(event)) for event in found] == found
    assert all(one.ts <= other.ts for one, other in pairwise(found))
    assert all(event.ts <= traffic.end_ts for event in found)
    assert len({(event.session_id, event.event_id) for event in found}) == len(found)
    for session in truth.sessions:
        mine = [event for event in found if event.session_id == session.session_id]
        assert [event.event_id for event in mine] == sorted(event.event_id for event in mine)
        assert all(event.ts >= session.start_ts for event in mine)
        ends = [event.ts for event in mine if isinstance(event, inbound.SessionEnded)]
        assert ends == ([session.end_ts] if session.end_ts is not None else [])
        after = [event for event in mine if ends and event.ts > ends[0]]
        assert all(isinstance(event, inbound.PresenceLeave) for event in after)


def test_people_act_only_while_they_are_there() -> None:
    for event_room, names in (
        (room("exit", 40, 1), Names("t", "s", START)),
        (room("rush", 40, 2), Names("t", "s", START)),
    ):
        there: set[str] = set()
        shown = {f"s-u{number:04d}" for number in np.flatnonzero(event_room.joins)}
        for event in events(event_room, draw_cues(event_room, np.random.default_rng(5)), names):
            if isinstance(event, inbound.PresenceJoin):
                assert event.user_id not in there
                there.add(event.user_id)
            elif isinstance(event, inbound.PresenceLeave):
                there.remove(event.user_id)
            elif event.user_id in shown:
                assert event.user_id in there


def room(kind: str, people: int, seed: int, minutes: float = 10) -> Room:
    return draw_room(np.random.default_rng(seed), kind, Wish(people, minutes))


def by_acts(wanted: bool, kind: str, people: int) -> Room:
    """Return the first room of a kind whose presence is, or is not, seen by acts alone, and which lasts to its end."""
    rooms = (room(kind, people, seed) for seed in range(100))
    return next(r for r in rooms if r.joins.any() != wanted and not len(r.aftermath))


ROOMS = {
    "joins": by_acts(False, "steady", 9),
    "acts alone": by_acts(True, "drop", 14),
    "votes and applause": by_acts(False, "polls", 12),
    "an exit": by_acts(False, "exit", 16),
}


@pytest.mark.parametrize("name", ROOMS)
def test_the_course_is_the_mean_of_what_the_reference_counts(name: str) -> None:
    played_room, runs = ROOMS[name], 120
    expected = course(played_room, START, played_room.over)
    chosen = np.linspace(13, len(expected.ts) - 1, 6).astype(int)
    counted = np.array([_counted(played_room, expected.ts[chosen].tolist(), seed) for seed in range(runs)])
    for column, field in enumerate(
        ("score", "chats", "reactions", "active", "active_ratio", "connected", "leave_rate")
    ):
        means, spread = counted[:, :, column].mean(0), counted[:, :, column].std(0)
        # 4.5 standard errors; a little for what is rarer than one in 120, and for a ratio's expansion to second order.
        allowed = 4.5 * spread / np.sqrt(runs) + (0.012 if "ratio" in field or field == "score" else 0.02)
        assert np.all(np.abs(means - getattr(expected, field)[chosen]) <= allowed), field
    # A deviation estimated from 120 runs is within a quarter of the true one but once in 10,000 times.
    scores = counted[:, :, 0].std(0)
    assert scores == pytest.approx(expected.sd[chosen], rel=0.25, abs=0.01)


def _counted(played_room: Room, ticks: list[int], seed: int) -> list[tuple[float, ...]]:
    cues = draw_cues(played_room, np.random.default_rng(seed))
    log = [
        Event(e.ts, e.event_id, type_of(type(e)), "t", "s", e.user_id, getattr(e, "poll_id", ""))
        for e in events(played_room, cues, Names("t", "s", START))
    ]
    found: list[tuple[float, ...]] = []
    for tick in ticks:
        signals = model.signals_at(log, tick)
        parts = model.contributions(signals)
        score = max(0.0, parts.chat + parts.active + parts.reactions + parts.leaves)
        found.append(
            (score, signals.chat_per_min, signals.reactions_per_min, signals.active_users, signals.active_ratio,
             signals.connected_users, signals.leave_rate)
        )  # fmt: skip
    return found


@pytest.mark.parametrize("mean", [0.3, 4.0, 15.0, 40.0])
def test_a_saturated_terms_moments_are_those_of_drawn_counts(mean: float) -> None:
    counts = np.random.default_rng(1).poisson(mean, 200_000)
    values = np.minimum(1.0, np.log1p(counts) / np.log(21))
    expected, variance, third, slope = (float(column) for column in term(20).at(np.array(mean)))
    assert expected == pytest.approx(values.mean(), abs=0.002)
    assert variance == pytest.approx(values.var(), rel=0.03, abs=1e-5)
    assert third == pytest.approx(((values - values.mean()) ** 3).mean(), rel=0.06, abs=2e-5)
    assert slope == pytest.approx(np.cov(values, counts)[0, 1] / mean, rel=0.03, abs=1e-4)


def test_noise_of_a_mean_of_overlapping_windows() -> None:
    steps = np.random.default_rng(2).normal(size=400_000)
    windows = np.convolve(steps, np.ones(60), "valid") / np.sqrt(60)  # a window of 60 s, slid by 1 s
    for ticks in (6, 12, 30):
        means = windows[: len(windows) // (5 * ticks) * 5 * ticks].reshape(-1, 5 * ticks).mean(1)
        assert float(noise_of_mean(np.array([float(ticks)]))[0]) == pytest.approx(means.var(), rel=0.06)


@pytest.fixture(scope="module")
def lab() -> tuple[list[inbound.Event], LabTruth]:
    return played(LabTraffic(Plan(sessions=2 * len(MIX), people=300, minutes=16, seed=11)))


def wanted(truth: LabTruth) -> list[tuple[LabSession, Episode, str, int]]:
    """Return session, episode, type and the index of the onset's tick of everything that is wanted."""
    return [
        (session, episode, of.anomaly_type, (of.onset_ts - session.first_tick) // TICK_MS)
        for session in truth.sessions
        for episode in session.episodes
        for of in episode.types
        if of.onset_ts is not None
    ]


def test_every_type_is_wanted_somewhere_and_nothing_in_healthy_sessions(
    lab: tuple[list[inbound.Event], LabTruth],
) -> None:
    _, truth = lab
    assert {name for _, _, name, _ in wanted(truth)} == set(TYPES)
    assert {session.kind for session in truth.sessions} == set(KINDS)
    quiet = [session for session in truth.sessions if session.kind in HEALTHY]
    assert all(session.healthy for session in quiet)
    assert not any(session.healthy for session in truth.sessions if session.kind not in HEALTHY)


def test_wanted_falls_fall_as_the_rules_say_and_beyond_noise(lab: tuple[list[inbound.Event], LabTruth]) -> None:
    for session, _, name, onset in wanted(lab[1]):
        score, sd = np.array(session.expected), np.array(session.sd)
        for tick in range(onset, onset + 3):
            before = score[max(0, tick - 32) : tick - 2]
            if name == "SUDDEN_DROP":
                assert score[tick] <= 0.75 * before.mean() - 2 * sd[tick] + 1e-3
            elif name == "LOW_ENGAGEMENT":
                assert score[tick] + 2 * sd[tick] < 0.2 + 1e-3
                assert score[max(0, tick - 30) : tick].max() > 0.2
            elif name == "GRADUAL_DECLINE":
                starts = score[max(0, tick - 60) : tick - 5]
                assert (starts - score[tick]).max() >= 0.2 * starts.max() * 0.99
                # The curve sinks all along: it is no drop that happened to be followed by a rise.
                assert np.all(np.diff(score[tick - 6 : tick + 1]) <= 2e-4)
            if name in ("SUDDEN_DROP", "LOW_ENGAGEMENT"):
                assert before.mean() - score[tick] >= 3.5 * sd[max(0, tick - 32) : tick - 2].mean()


def test_wanted_exits_are_people_who_left(lab: tuple[list[inbound.Event], LabTruth]) -> None:
    found, truth = lab
    exits = [(session, onset) for session, _, name, onset in wanted(truth) if name == "MASS_EXIT"]
    assert exits
    for session, onset in exits:
        tick = session.first_tick + onset * TICK_MS
        mine = [event for event in found if event.session_id == session.session_id and event.ts < tick]
        left = {e.user_id for e in mine if isinstance(e, inbound.PresenceLeave) and e.ts >= tick - WINDOW_MS}
        earlier = {e.user_id for e in mine if isinstance(e, inbound.PresenceLeave) and e.ts < tick - WINDOW_MS}
        joined = {e.user_id for e in mine if isinstance(e, inbound.PresenceJoin)}
        assert len(left) >= max(3, 0.1 * len(joined - earlier))


def test_episodes_keep_their_order_and_their_place(lab: tuple[list[inbound.Event], LabTruth]) -> None:
    for session in lab[1].sessions:
        last = session.first_tick - 1
        ticks = range(session.first_tick, session.first_tick + TICK_MS * len(session.expected), TICK_MS)
        assert len(session.expected) == len(session.sd)
        for episode in session.episodes:
            assert last < episode.first_ts <= episode.last_ts
            assert episode.start_ts <= episode.first_ts + 300_000
            onsets = [of.onset_ts for of in episode.types if of.onset_ts is not None]
            assert bool(onsets) == (episode.ambiguous is None)
            for of in episode.types:
                assert all(
                    a in ticks and b in ticks and episode.first_ts <= a <= b <= episode.last_ts for a, b in of.spans
                )
                assert of.onset_ts is None or any(a <= of.onset_ts <= b for a, b in of.spans)
                assert of.onset_ts is None or episode.start_ts <= of.onset_ts <= session.over_ts
            last = episode.last_ts


def test_nothing_is_open_in_a_settled_room_before_its_end() -> None:
    for session in played(LabTraffic(Plan(12, 60, 12, 4), "steady"))[1].sessions:
        if session.by_acts_alone:
            continue  # people become known one by one there: all are active at first, and the ratio sinks
        open_before = [
            e for e in session.episodes if e.first_ts <= session.over_ts and e.ambiguous not in ("poll", "end")
        ]
        assert open_before == []


def test_a_poll_alone_is_never_wanted() -> None:
    _, truth = played(LabTraffic(Plan(8, 400, 15, 5), "polls"))
    assert wanted(truth) == []
    assert any(episode.ambiguous == "poll" for session in truth.sessions for episode in session.episodes)


def test_newcomers_are_never_wanted_although_they_dilute_the_ratio() -> None:
    _, truth = played(LabTraffic(Plan(8, 200, 15, 5), "rush"))
    assert wanted(truth) == []


def test_single_visitors_have_no_audience_and_no_episode() -> None:
    found, truth = played(LabTraffic(Plan(4, 1, 10, 5), "single"))
    assert {session.audience_ticks for session in truth.sessions} == {0}
    assert all(session.episodes == [] for session in truth.sessions)
    assert any(isinstance(event, inbound.PageView) for event in found)


def test_ten_people_at_five_messages_a_minute() -> None:
    found, truth = played(LabTraffic(Plan(4, minutes=60, seed=5), "small"))
    chats = sum(isinstance(event, inbound.ChatMessage) for event in found)
    assert chats / (4 * 60) == pytest.approx(5.0, rel=0.35)
    assert all(session.healthy for session in truth.sessions)


def test_the_mix_is_exact_and_mostly_small_and_medium() -> None:
    sizes = [session.people for session in (_drawn(slot) for slot in range(len(MIX)))]
    assert min(sizes) == 1
    assert sum(size <= 1_000 for size in sizes) > 0.6 * len(sizes)
    assert {name: MIX.count(name) for name in KINDS} == {name: kind.weight for name, kind in KINDS.items()}


def _drawn(slot: int) -> Room:
    return LabTraffic(Plan(sessions=len(MIX), seed=2, minutes=2)).room(slot, 1)


def test_a_repeating_plan_goes_on_with_other_sessions() -> None:
    traffic = LabTraffic(Plan(sessions=2, people=4, minutes=1, repeat=True), "steady")
    names: list[str] = []
    for event in traffic.events():
        if event.session_id not in names:
            names.append(event.session_id)
        if len(names) == 6:
            break
    assert len(set(names)) == 6


def test_the_command_lists_scenarios_and_writes_a_labelled_lab(tmp_path: Path) -> None:
    run = CliRunner(env={"COLUMNS": "120", "NO_COLOR": "1"}).invoke
    listed = run(app, ["generate", "--list"])
    assert listed.exit_code == 0
    assert {line.split()[0] for line in listed.stdout.splitlines()} == set(SCENARIOS)
    out = tmp_path / "lab.jsonl"
    options = ["--scenario", "lab-drop", "--sessions", "2", "--people", "30", "--minutes", "6", "--out", str(out)]
    assert run(app, ["generate", *options]).exit_code == 0
    truth = msgspec.json.decode((tmp_path / "lab.jsonl.truth.json").read_bytes(), type=LabTruth)
    assert truth.scenario == "lab-drop"
    assert [session.kind for session in truth.sessions] == ["drop", "drop"]
    assert len(out.read_bytes().splitlines()) > 100


def test_an_audience_is_expected_where_there_is_one() -> None:
    few, many = (course(room(kind, 30, 4), START) for kind in ("single", "steady"))
    assert float(few.audience.max()) < 5 <= float(many.audience.max())
