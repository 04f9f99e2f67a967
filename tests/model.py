"""The reference for windows, scores and sessions: slow, obvious, straight from the contract's sections 1 to 3.

There are no panes, no incremental counts and no state between two ticks. A first walk over the log decides record by
record what is accepted; then every session's accepted events are laid out in event-time order, and every tick T is
computed from scratch from the list of those before T. Whatever is fast must agree with this.

All times are integer milliseconds.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.outbound import Category, Contributions, Engagement, SessionSummary, Signals
from tests.model_input import Event, Unusable, judge

SECOND = 1_000
MINUTE = 60 * SECOND
SCORE_UNITS = 1_000_000
"""A summary's mean is taken over scores rounded to this fraction, as integers, so that no order of adding matters."""


@dataclass(frozen=True)
class Defaults:
    """The contract's numbers. Weights: chat, poll, active, reactions, leaves. Boundaries: from VERY_HIGH down."""

    window_ms: int = 60 * SECOND
    tick_ms: int = 5 * SECOND
    lateness_ms: int = 2 * SECOND
    stream_slack_ms: int = 7 * SECOND
    early_ms: int = 5 * SECOND
    idle_ms: int = 30 * MINUTE
    presence_timeout_ms: int = 5 * MINUTE
    join_timeout_ms: int | None = None
    poll_timeout_ms: int = 10 * MINUTE
    polls_remembered: int = 32
    weights: tuple[float, float, float, float, float] = (0.30, 0.25, 0.25, 0.10, 0.10)
    chat_ceiling: int = 20
    reactions_ceiling: int = 10
    boundaries: tuple[float, float, float, float] = (0.8, 0.6, 0.4, 0.2)


DEFAULTS = Defaults()


class Position(NamedTuple):
    """Where a record stands: topic, partition, and offset (or line)."""

    topic: str
    partition: int
    offset: int


class LogRecord(NamedTuple):
    """One record of a partition stream. ``record_ts`` is Kafka's record timestamp."""

    record_ts: int
    topic: str
    partition: int
    offset: int
    raw: bytes | None

    @property
    def position(self) -> Position:
        """Where the record stands."""
        return Position(self.topic, self.partition, self.offset)


class Dead(NamedTuple):
    """A record that became a dead letter. ``either_way``: malformed_json and invalid_field are both right."""

    reason: str
    position: Position
    field: str
    either_way: bool = False


@dataclass
class Expected:
    """What must come of a log. ``accepted + repeats + len(dead)`` is the number of its records."""

    engagement: list[Engagement] = field(default_factory=list)
    sessions: list[SessionSummary] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)
    accepted: int = 0
    repeats: int = 0


@dataclass
class Session:
    """A session's accepted events in event-time order, and how it ends."""

    events: list[Event]

    @property
    def start(self) -> int:
        """The time of the first event."""
        return self.events[0].ts

    @property
    def ended_by_event(self) -> bool:
        """Whether ``session.ended`` closes it."""
        return _told_over(self.events)

    def end(self, config: Defaults) -> int:
        """Return when it ends, if no further event comes."""
        return self.events[-1].ts + (0 if self.ended_by_event else config.idle_ms)

    def over(self, horizon: float, config: Defaults) -> bool:
        """Return whether its end is final. An event before the horizon is final, one at the horizon is not yet."""
        return self.end(config) < horizon if self.ended_by_event else self.end(config) <= horizon


def reference(log: Sequence[LogRecord], config: Defaults = DEFAULTS, ends: bool = True) -> Expected:
    """Return what must come of the records of one partition stream, given in the order in which they are read.

    With ``ends`` time runs on at the log's end until every session has ended (a replay); without, what is due by then
    is all there is (a live stream). Engagement and sessions are in order of session, start and tick.
    """
    expected = Expected()
    accepted: dict[tuple[str, str], list[Event]] = defaultdict(list)
    stream_time = _admit(log, config, expected, accepted)
    for key in sorted(accepted):
        events = sorted(accepted[key], key=lambda event: (event.ts, event.event_id))
        horizon = math.inf if ends else _horizon(events[-1].ts, stream_time, config)
        for session in split(events, config):
            records = list(_ticks(session, horizon, config))
            expected.engagement += records
            if session.over(horizon, config):
                expected.sessions.append(_summary(session, records, config))
    return expected


def _horizon(highest_ts: float, stream_time: float, config: Defaults) -> float:
    """Return the last tick that is due. A key's highest ts is kept for ever here, which nobody can tell.

    State is freed when all events lie before the horizon; that horizon is then stream time's, for the watermark alone
    stays behind its own highest event. Stream time never goes back, so the forgotten watermark would not count again.
    """
    reached = max(highest_ts - config.lateness_ms, stream_time - config.stream_slack_ms)
    return reached // config.tick_ms * config.tick_ms


def _admit(
    log: Sequence[LogRecord], config: Defaults, expected: Expected, accepted: dict[tuple[str, str], list[Event]]
) -> float:
    """Accept what is accepted, count and list the rest, and return the stream time at the end."""
    stream_time = -math.inf
    highest: dict[tuple[str, str], float] = defaultdict(lambda: -math.inf)
    known: set[tuple[str, str, str, int]] = set()
    for record in log:
        stream_time = max(stream_time, record.record_ts)
        event = judge(record.raw)
        if isinstance(event, Unusable):
            expected.dead.append(Dead(event.reason, record.position, event.field, event.either_way))
            continue
        if not event.windowed:
            expected.accepted += 1
            continue
        session = (event.tenant_id, event.session_id)
        identity = (*session, event.event_id, event.ts)
        if event.ts > record.record_ts + config.early_ms:
            expected.dead.append(Dead("early", record.position, "ts"))
        elif event.ts < _horizon(highest[session], stream_time, config):  # the first tick beyond it is closed
            expected.dead.append(Dead("late", record.position, "ts"))
        elif identity in known:
            expected.repeats += 1
        else:
            expected.accepted += 1
            known.add(identity)
            highest[session] = max(highest[session], event.ts)
            accepted[session].append(event)
    return stream_time


def split(events: Sequence[Event], config: Defaults = DEFAULTS) -> Iterator[Session]:
    """Yield the sessions that one session id's accepted events, in event-time order, make."""
    session: list[Event] = []
    for event in events:
        if session:
            last = session[-1]
            if (event.ts > last.ts and _told_over(session)) or event.ts >= last.ts + config.idle_ms:
                yield Session(session)
                session = []
        session.append(event)
    if session:
        yield Session(session)


def _told_over(events: Sequence[Event]) -> bool:
    """Return whether ``session.ended`` has the time of the last event: what has that very time still belongs to it."""
    return any(event.kind == "session.ended" and event.ts == events[-1].ts for event in events)


def _ticks(session: Session, horizon: float, config: Defaults) -> Iterator[Engagement]:
    first = session.start // config.tick_ms * config.tick_ms + config.tick_ms
    previous_quiet = False
    for tick in range(first, int(min(session.end(config), horizon)) + 1, config.tick_ms):
        signals = signals_at(session.events, tick, config)
        window = [event for event in session.events if tick - config.window_ms <= event.ts < tick]
        quiet = signals.connected_users == 0 and not window
        if not (quiet and previous_quiet):
            yield _engagement(session, tick, signals, config)
        previous_quiet = quiet


def signals_at(events: Sequence[Event], tick: int, config: Defaults = DEFAULTS) -> Signals:
    """Return the signals of a session's window ``[tick - 60 s, tick)``, from scratch."""
    before = [event for event in events if event.ts < tick]
    opens = tick - config.window_ms
    window = [event for event in before if event.ts >= opens]
    users = presence(before, config)
    present = {user for user, there in users.items() if there.at(tick)}
    there_at_some_time = {user for user, there in users.items() if there.until >= opens}
    active = {event.user_id for event in window if event.is_act}
    left = {event.user_id for event in window if event.kind == "presence.leave"} - present
    return Signals(
        chat_per_min=sum(event.kind == "chat.message" for event in window),
        reactions_per_min=sum(event.kind == "reaction" for event in window),
        connected_users=len(present),
        active_users=len(active),
        active_ratio=len(active) / len(active | present) if active | present else 0.0,
        poll_participation=_participation(before, tick, config),
        leave_rate=len(left) / len(there_at_some_time) if there_at_some_time else 0.0,
    )


@dataclass(frozen=True)
class Presence:
    """A user's last moment in the session, included, if nothing more happens; ``left``: a leave told so.

    The moment is infinite for a join without a time-out. A leave tells that its user was present until then.
    """

    until: float
    left: bool = False

    def at(self, moment: int) -> bool:
        """Return whether the user is present at a moment that no known event lies beyond."""
        return not self.left and self.until >= moment


def presence(events: Sequence[Event], config: Defaults = DEFAULTS) -> dict[str, Presence]:
    """Return the presence of every user who was ever there, as known after these events."""
    join_timeout = math.inf if config.join_timeout_ms is None else config.join_timeout_ms
    known: dict[str, Presence] = {}
    joined: set[str] = set()
    for event in events:
        user = event.user_id
        if user in known and not known[user].at(event.ts):
            joined.discard(user)  # left, or ran out of time
        if event.kind == "presence.join":
            joined.add(user)
            known[user] = Presence(event.ts + join_timeout)
        elif event.kind == "presence.leave":
            known[user] = Presence(event.ts, left=True)
        elif event.is_act:
            known[user] = Presence(event.ts + (join_timeout if user in joined else config.presence_timeout_ms))
    return known


def _participation(before: Sequence[Event], tick: int, config: Defaults) -> float:
    """Return the share of those who were present when the poll that runs at the tick began that voted since."""
    running = ""
    runs_until = -math.inf
    started_by = 0
    voters: set[str] = set()
    ended: list[str] = []  # oldest first

    def end(poll_id: str) -> None:
        if poll_id in ended:
            ended.remove(poll_id)
        ended.append(poll_id)
        del ended[: -config.polls_remembered]

    for number, event in enumerate(before):
        if running and event.ts >= runs_until:
            end(running)
            running = ""
        if event.kind == "poll.closed":
            end(event.poll_id)
            running = "" if running == event.poll_id else running
        starts = event.kind == "poll.opened" or (event.kind == "poll.vote" and event.poll_id not in ended)
        if starts and event.poll_id != running:
            if running:
                end(running)
            if event.poll_id in ended:
                ended.remove(event.poll_id)
            running, started_by, voters = event.poll_id, number, set()
            runs_until = event.ts + config.poll_timeout_ms
        if event.kind == "poll.vote" and event.poll_id == running:
            voters.add(event.user_id)
            runs_until = event.ts + config.poll_timeout_ms
    if not running or tick >= runs_until or not voters:
        return 0.0
    start = before[started_by]
    base = sum(there.at(start.ts) for there in presence(before[: started_by + 1], config).values())
    return min(1.0, len(voters) / max(1, base))


def _engagement(session: Session, tick: int, signals: Signals, config: Defaults) -> Engagement:
    parts = contributions(signals, config)
    score = min(1.0, max(0.0, parts.chat + parts.poll + parts.active + parts.reactions + parts.leaves))
    first = session.events[0]
    return Engagement(
        id=f"{_prefix(session)}/engagement/{tick}",
        tenant_id=first.tenant_id,
        session_id=first.session_id,
        ts=tick,
        session_start=session.start,
        score=score,
        category=category(score, config),
        signals=signals,
        contributions=parts,
    )


def contributions(signals: Signals, config: Defaults = DEFAULTS) -> Contributions:
    """Return the weighted terms of the score. No leaves give 0.0 and not -0.0."""
    chat, poll, active, reactions, leaves = config.weights
    c = min(1.0, math.log(1 + signals.chat_per_min) / math.log(1 + config.chat_ceiling))
    r = min(1.0, math.log(1 + signals.reactions_per_min) / math.log(1 + config.reactions_ceiling))
    return Contributions(
        chat=chat * c,
        poll=poll * signals.poll_participation,
        active=active * signals.active_ratio,
        reactions=reactions * r,
        leaves=0.0 - leaves * signals.leave_rate,
    )


def category(score: float, config: Defaults = DEFAULTS) -> Category:
    """Return the category of a score, each boundary included in the one above it."""
    very_high, high, moderate, low = config.boundaries
    if score >= very_high:
        return "VERY_HIGH"
    if score >= high:
        return "HIGH"
    if score >= moderate:
        return "MODERATE"
    return "LOW" if score >= low else "VERY_LOW"


def _summary(session: Session, records: Sequence[Engagement], config: Defaults) -> SessionSummary:
    kinds = [event.kind for event in session.events]
    scores = [record.score for record in records]
    end = session.end(config)
    first = session.events[0]
    return SessionSummary(
        id=f"{_prefix(session)}/session",
        tenant_id=first.tenant_id,
        session_id=first.session_id,
        ts=end,
        session_start=session.start,
        ended_by="ended" if session.ended_by_event else "idle",
        duration_ms=end - session.start,
        events=len(kinds),
        chat_messages=kinds.count("chat.message"),
        reactions=kinds.count("reaction"),
        votes=kinds.count("poll.vote"),
        telemetry=sum(kind.startswith("telemetry.") for kind in kinds),
        joins=kinds.count("presence.join"),
        leaves=kinds.count("presence.leave"),
        users=len({e.user_id for e in session.events if e.is_act or e.kind.startswith("presence.")}),
        peak_connected=max((record.signals.connected_users for record in records), default=0),
        ticks=len(records),
        score_mean=sum(round(s * SCORE_UNITS) for s in scores) / len(scores) / SCORE_UNITS if scores else None,
        score_peak=max(scores, default=None),
    )


def _prefix(session: Session) -> str:
    first = session.events[0]
    return f"{_escaped(first.tenant_id)}/{_escaped(first.session_id)}/{session.start}"


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F")
