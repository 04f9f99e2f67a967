"""Generated traffic: deterministic, valid, in order, and its truth counted anew from the events alone."""

import io
import threading
from collections import Counter
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.generate import SCENARIOS, Plan
from flows.generate.live import LiveTraffic
from flows.generate.script import along
from flows.generate.truth import SessionTruth, default_score
from flows.generate.write import Lines, Topics, batches, paced
from schemas import inbound
from schemas.inbound import AnyEvent, Event
from schemas.registry import INBOUND, type_of

SMALL = Plan(sessions=3, people=12, minutes=5, seed=3, tenants=2)


def live(plan: Plan) -> LiveTraffic:
    traffic = SCENARIOS["live"].make(plan)
    assert isinstance(traffic, LiveTraffic)
    return traffic


def lines(plan: Plan) -> bytes:
    stream = io.BytesIO()
    to = Lines(stream)
    for batch in batches(live(plan).events()):
        to.send(batch)
    to.finish()
    return stream.getvalue()


plans = st.builds(
    Plan,
    sessions=st.integers(1, 4),
    people=st.integers(1, 25),
    minutes=st.floats(0.1, 9),
    seed=st.integers(),
    tenants=st.integers(1, 3),
    start_ts=st.integers(0, 4_000_000_000_000),
    rate=st.floats(0, 4),
)


def test_the_same_plan_gives_the_same_bytes_and_another_seed_others() -> None:
    assert lines(SMALL) == lines(SMALL)
    assert lines(SMALL) != lines(Plan(3, 12, 5, seed=4, tenants=2))


def test_truth_costs_no_event() -> None:
    assert lines(SMALL) == lines(Plan(3, 12, 5, 3, 2, truth=False))


@settings(max_examples=20, deadline=None)
@given(plans)
def test_events_are_valid_in_order_and_unique(plan: Plan) -> None:
    decoder = msgspec.json.Decoder(AnyEvent)
    traffic = live(plan)
    encoded = [msgspec.json.encode(event) for event in traffic.events()]
    events: list[Event] = [decoder.decode(line) for line in encoded]
    assert [msgspec.json.encode(event) for event in events] == encoded
    assert all(one.ts <= other.ts for one, other in pairwise(events))
    assert plan.start_ts <= events[0].ts
    assert events[-1].ts == traffic.end_ts
    assert len({(event.tenant_id, event.session_id, event.event_id) for event in events}) == len(events)
    for session in by_session(events).values():
        assert [event.event_id for event in session] == sorted(event.event_id for event in session)
        assert isinstance(session[-1], inbound.SessionEnded)
        assert Counter(type(event) for event in session)[inbound.SessionEnded] == 1


def by_session(events: list[Event]) -> dict[tuple[str, str], list[Event]]:
    found: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        found.setdefault((event.tenant_id, event.session_id), []).append(event)
    return found


def counted(events: list[Event], ts: int) -> dict[str, float]:
    """Count a tick's signals from the events alone, as slowly and plainly as possible."""
    acts = (inbound.ChatMessage, inbound.Reaction, inbound.PollVote)
    seen = [event for event in events if event.ts < ts]
    recent = [event for event in seen if event.ts >= ts - 60_000]
    users = {event.user_id for event in seen}
    present = {user for user in users if is_present(seen, user, ts, acts)}
    active = {event.user_id for event in recent if isinstance(event, acts)}
    left = {event.user_id for event in recent if isinstance(event, inbound.PresenceLeave)} - present
    moments = [ts - 60_000, *(event.ts + 1 for event in recent)]
    ever = {user for user in users for at in moments if is_present(before(seen, at), user, at, acts)} | present
    running = [event for event in seen if isinstance(event, inbound.PollOpened | inbound.PollClosed)]
    poll = 0.0
    if running and isinstance(running[-1], inbound.PollOpened):
        opened = running[-1]
        then = before(seen, opened.ts)
        voters = {e.user_id for e in seen if isinstance(e, inbound.PollVote) and e.poll_id == opened.poll_id}
        there = sum(is_present(then, user, opened.ts, acts) for user in users)
        poll = min(1.0, len(voters) / max(1, there))
    return {
        "chat_per_min": sum(isinstance(event, inbound.ChatMessage) for event in recent),
        "reactions_per_min": sum(isinstance(event, inbound.Reaction) for event in recent),
        "connected_users": len(present),
        "active_users": len(active),
        "active_ratio": len(active) / len(active | present) if active | present else 0.0,
        "poll_participation": poll,
        "leave_rate": len(left) / len(ever | left) if ever | left else 0.0,
    }


def before(events: list[Event], ts: int) -> list[Event]:
    return [event for event in events if event.ts < ts]


def is_present(seen: list[Event], user: str, ts: int, acts: tuple[type[Event], ...]) -> bool:
    """Tell from the events before ``ts`` whether a user is present then."""
    joined, valid = False, None
    for event in seen:
        if event.user_id == user and isinstance(event, inbound.PresenceJoin):
            joined = True
        elif event.user_id == user and isinstance(event, inbound.PresenceLeave):
            joined, valid = False, None
        elif event.user_id == user and isinstance(event, acts):
            valid = event.ts
    return joined or (valid is not None and ts <= valid + 300_000)


@pytest.mark.parametrize("seed", [1, 2])
def test_truth_is_what_a_brute_count_of_the_events_gives(seed: int) -> None:
    traffic = live(Plan(sessions=2, people=10, minutes=8, seed=seed))
    events = by_session(list(traffic.events()))
    truth = traffic.truth()
    assert {(s.tenant_id, s.session_id) for s in truth.sessions} == set(events)
    for session in truth.sessions:
        of_session = events[session.tenant_id, session.session_id]
        assert_totals(session, of_session)
        assert [tick.ts for tick in session.ticks] == list(
            range((session.start_ts // 5_000 + 1) * 5_000, session.end_ts + 1, 5_000)
        )
        for tick in session.ticks[::3]:
            found = counted(of_session, tick.ts)
            assert {name: getattr(tick, name) for name in found} == pytest.approx(found), tick.ts


def assert_totals(session: SessionTruth, events: list[Event]) -> None:
    kinds = Counter(type_of(type(event)) for event in events)
    assert session.events == len(events)
    assert session.chat_messages == kinds["chat.message"]
    assert session.reactions == kinds["reaction"]
    assert session.votes == kinds["poll.vote"] == sum(poll.voters for poll in session.polls)
    assert session.joins == kinds["presence.join"]
    assert session.leaves == kinds["presence.leave"]
    assert session.users == len({event.user_id for event in events})


def test_there_is_something_to_see() -> None:
    traffic = live(Plan(sessions=4, people=25, minutes=12, seed=1))
    kinds = Counter(type_of(type(event)) for event in traffic.events())
    assert set(kinds) == {
        "presence.join",
        "presence.leave",
        "chat.message",
        "reaction",
        "poll.opened",
        "poll.vote",
        "poll.closed",
        "session.ended",
    }
    sessions = {session.mood: session for session in traffic.truth().sessions}
    manners = Counter(person.manner for session in sessions.values() for person in session.people)
    assert set(manners) == {"joins", "vanishes", "drops_in"}
    for session in sessions.values():
        scores = [tick.score for tick in session.ticks]
        assert max(scores) - min(scores) > 0.3
        assert any(tick.poll_participation > 0 for tick in session.ticks)
    fading = sessions["fading-webinar"].ticks
    assert fading[-1].active_users < max(tick.active_users for tick in fading) / 2
    assert fading[-1].connected_users < max(tick.connected_users for tick in fading)


def test_a_repeating_plan_never_ends_and_repeats_no_session() -> None:
    traffic = live(Plan(sessions=2, people=3, minutes=1, repeat=True))
    ended: set[str] = set()
    for event in traffic.events():
        if isinstance(event, inbound.SessionEnded):
            assert event.session_id not in ended
            ended.add(event.session_id)
        if len(ended) == 6:
            break
    assert len(traffic.truth().sessions) >= 5


def test_rate_multiplies_what_people_say() -> None:
    few, many = (Counter(map(type, live(Plan(seed=2, rate=rate)).events())) for rate in (1, 3))
    assert 2.5 < many[inbound.ChatMessage] / few[inbound.ChatMessage] < 3.5
    assert live(Plan(rate=0)).truth() is not None
    assert not any(isinstance(event, inbound.ChatMessage) for event in live(Plan(rate=0)).events())


@pytest.mark.parametrize("wrong", [{"sessions": 0}, {"people": 0}, {"minutes": 0.0}, {"rate": -1.0}, {"tenants": 0}])
def test_a_plan_without_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"at least|more than"):
        Plan(**wrong)  # type: ignore[arg-type]  # one dictionary, several types


def test_pacing_follows_the_clock_and_stops_when_told() -> None:
    now = [0.0]
    events = [inbound.PresenceJoin(str(ts), "t", "s", "u", ts) for ts in (0, 100, 100, 1000, 60_000)]
    stop = _Ticking(now, step=0.25, until=2.0)
    given_at = [(now[0], [event.ts for event in batch]) for batch in paced(events, stop, lambda: now[0]) if batch]
    assert given_at == [(0.0, [0]), (0.25, [100, 100]), (1.0, [1000])]


class _Ticking(threading.Event):
    """A stop flag whose waiting moves a clock, and which is set when that reaches a time."""

    def __init__(self, now: list[float], step: float, until: float) -> None:
        super().__init__()
        self._now, self._step, self._until = now, step, until

    def wait(self, timeout: float | None = None) -> bool:
        self._now[0] += self._step
        return self._now[0] >= self._until


class _Recorder:
    """A producer that remembers."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes, bytes, int]] = []
        self.confirmed = 0

    def send(self, topic: str, partition: int | None, key: bytes, value: bytes, timestamp_ms: int) -> None:
        assert partition is None
        self.records.append((topic, key, value, timestamp_ms))

    def look(self) -> None:
        pass

    def confirm(self) -> None:
        self.confirmed = len(self.records)


def test_events_go_to_the_topic_of_their_type_under_their_sessions_key() -> None:
    recorder = _Recorder()
    to = Topics(recorder, {"platform.events.chat.message.v1": "chat"})
    events = list(live(SMALL).events())
    to.send(events)
    to.finish()
    assert recorder.confirmed == len(events)
    for event, (topic, key, value, ts) in zip(events, recorder.records, strict=True):
        default = INBOUND[type_of(type(event))].topic
        assert topic == ("chat" if isinstance(event, inbound.ChatMessage) else default)
        assert key == f"{event.tenant_id}/{event.session_id}".encode()
        assert msgspec.json.decode(value, type=AnyEvent) == event
        assert ts == event.ts


def test_curve_is_flat_at_its_ends() -> None:
    curve = ((0.2, 1.0), (0.4, 3.0))
    assert [along(curve, x) for x in (0, 0.2, 0.3, 0.4, 9)] == pytest.approx([1, 1, 2, 3, 3])


def test_truth_scores_within_bounds() -> None:
    assert default_score(0, 0, 0, 0, 1) == 0
    assert default_score(10**6, 10**6, 1, 1, 0) == pytest.approx(0.9)
