"""The visitors of a shard: follows each by the rules, in the order of his partition, and tells what he shows at once.

What is told depends on the events of each session's partition alone, not on how they were cut into chunks: an event
first wakes the waits that it makes due, and what a tick told stands before the event that made the tick due.
"""

from dataclasses import dataclass
from enum import IntEnum
from operator import attrgetter
from typing import Final, NamedTuple

import numpy as np

from operators.chunk import Chunk, Reply
from operators.columns import Flags, Int64s, pack, unpack
from operators.config import NEVER, PANE_MS, WindowConfig
from operators.emotions.alarms import Alarms
from operators.emotions.course import AT_EVENT, BEFORE_ALL, NEVER_ENDED, Course, Place, Stream, parts, session_key
from operators.emotions.matcher import Matcher
from operators.emotions.recent import Recent
from operators.emotions.records import emotion, observed
from operators.emotions.rules import Rules
from operators.emotions.sessions import Boundary, Sessions, Turn, accepted
from operators.emotions.sieve import Sieve
from operators.emotions.sifting import Batch, Pass
from operators.emotions.sorter import OBSERVED
from operators.emotions.state import SNAPSHOTS, Remembered
from operators.emotions.sweep import sweep
from operators.emotions.table import Visitors
from operators.emotions.visitor import Visitor
from operators.emotions.wanted import Wanted
from operators.interventions.cues import Answer, Cue, Felt, Over, Seen, covering_tick
from operators.interventions.records import may_be_of
from operators.presence import LONG_AGO
from operators.settle import Closed
from schemas.inbound import MAX_TS, InterventionApproval
from schemas.outbound import Anomaly, Emotion

_SWEEP_MS = 60_000
_FIRST: Final = np.zeros(1, np.int64)


@dataclass(frozen=True, slots=True)
class Noticed:
    """What the window has made of a chunk: which of its events were accepted (None: all), and what it closed then."""

    chunk: Chunk
    accepted: Flags | None
    closed: list[Closed]
    anomalies: list[Anomaly]


class _What(IntEnum):
    """What is to be looked at at an event's place, in this order; the events themselves are in the middle."""

    REPLY = 0
    OPENS = 1
    EVENT = 2
    ENDS = 3


class _Step(NamedTuple):
    place: int
    what: _What
    item: int = 0


class Diagnosis:
    """The visitors of one shard. State is bounded by what the rules remember of each, and freed with the session.

    Of who does nothing any more, some 45 bytes are left until then: what the rules ask however long ago it was.
    """

    def __init__(self, rules: Rules, config: WindowConfig) -> None:
        self._rules = rules
        self._config = config
        self._matcher = Matcher(rules)
        self._sessions = Sessions()
        self._streams: dict[int, Stream] = {}
        self._table = Visitors(self._matcher.roles)
        self._sieve = Sieve(self._matcher.roles, self._table, config)

    def take(self, noticed: Noticed) -> list[Cue]:
        """Take in a chunk and what was closed with it; return the cues that follow, in order."""
        chunk = noticed.chunk
        stream = self._streams.setdefault(chunk.partition, Stream())
        course = Course(chunk, noticed.accepted, stream, self._config)
        if len(chunk) or chunk.replies:
            self._events(course, noticed.accepted)
        stream.clock = max(stream.clock, chunk.clock)
        reached = stream.clock - self._config.stream_delay_ms
        self._ring(course, reached)
        self._end_idle(course, reached)
        self._of_ticks(course, noticed, reached)
        if stream.clock // _SWEEP_MS > stream.swept:
            stream.swept = stream.clock // _SWEEP_MS
            self._sweep(chunk.partition, stream)
        stream.recent.drop(stream.clock, self._config)
        return course.in_order()

    def _events(self, course: Course, taken: Flags | None) -> None:
        """Go through what has to be looked at one by one, in order."""
        chunk, sessions = course.chunk, self._sessions
        if course.stream.ended:
            # What is of a session that is over already, and was only late in coming.
            over = [course.stream.ended.get(key, NEVER_ENDED)[1] for key in chunk.sessions]
            in_time = chunk.ts > np.array(over, np.int64)[chunk.session]
            taken = in_time if taken is None else taken & in_time
        events = accepted(chunk, taken)
        rows = sessions.rows(chunk.sessions, events)
        boundaries, stray = sessions.boundaries(events, rows, self._config)
        if stray:
            taken = np.ones(len(chunk), np.bool_) if taken is None else taken.copy()
            taken[stray] = False
        course.begin(sessions.start[rows].tolist())
        keys = sessions.keys_of(rows, chunk.session, chunk.user)
        batch = Batch(chunk, taken, keys, rows, sessions.segments(chunk, boundaries))
        passes, course.later = self._sieve.sift(batch, course.stream.recent)
        others = self._others(chunk, boundaries)
        others.reverse()
        for let in passes:
            while others and (others[-1].place, others[-1].what) < (let.place, _What.EVENT):
                self._other(course, others.pop(), boundaries, rows)
            self._look(course, let)
        while others:
            self._other(course, others.pop(), boundaries, rows)
        if len(events.ts):
            sessions.took(chunk.partition, events, rows)
            idle_at = int(events.ts.min()) + self._config.session_timeout_ms
            course.stream.idle_at = min(course.stream.idle_at, idle_at)
        if course.gone:
            sessions.remove(np.array([sessions.row_by_key[key] for key in course.gone], np.int64))

    def _others(self, chunk: Chunk, boundaries: list[Boundary]) -> list[_Step]:
        """Return what is to be looked at beside events, in order."""
        turns = [_What.ENDS if boundary.turn is Turn.END else _What.OPENS for boundary in boundaries]
        steps = [_Step(boundary.place, turns[i], i) for i, boundary in enumerate(boundaries)]
        return sorted(steps + [_Step(reply.at, _What.REPLY, i) for i, reply in enumerate(chunk.replies)])

    def _other(self, course: Course, step: _Step, boundaries: list[Boundary], rows: Int64s) -> None:
        chunk, at = course.chunk, step.place
        if step.what is _What.REPLY:
            self._reply(course, chunk.replies[step.item])
            return
        session = int(chunk.session[at])
        key = chunk.sessions[session]
        if step.what is _What.OPENS:
            boundary = boundaries[step.item]
            if boundary.turn is Turn.AFTER_SILENCE:
                self._over_by_silence(course, key, boundary.over, course.starts[session], at)
            self._sessions.start[rows[session]] = course.starts[session] = int(chunk.ts[at])
            course.gone.pop(key, None)
        else:
            self._over_by_event(course, key, at, course.starts[session])

    def _look(self, course: Course, let: Pass) -> None:
        """Look at an event that was let through."""
        chunk, at = course.chunk, let.place
        session = chunk.session.item(at)
        key = chunk.sessions[session]
        watched = None if let.item < 0 else chunk.event(at)
        visitor = self._table.visitor[let.row]
        if visitor is None:
            if watched is None and not let.ran_out:
                return
            visitor = self._meet(let.row, (let.ran_out[0][1] if watched is None else watched).user_id)
        for which, began in let.ran_out:
            self._matcher.begin(visitor, self._matcher.roles.silences[which], began)
        if visitor.waits:
            self._due(course, key, visitor, at)
        if let.between:
            visitor.place, visitor.before = let.between
        if watched is None or let.mask == OBSERVED:
            self._matcher.hear(visitor, chunk.ts.item(at))
            if watched is not None:
                self._tell(course, key, Place(at, AT_EVENT), observed(watched))
        elif shown := self._matcher.feed(visitor, watched, let.mask, course.starts[session], let.asked, let.owed):
            emotions = (emotion(key, visitor.user_id, found) for found in shown)
            self._tell(course, key, Place(at, AT_EVENT), *emotions)
        self._wait(course.stream, key, visitor, let.row)

    def _meet(self, row: int, user_id: str) -> Visitor:
        visitor: Visitor = Visitor(user_id, self._table.user.item(row), settled=self._table.settled.item(row))
        self._table.visitor[row] = visitor
        return visitor

    def _due(self, course: Course, key: str, visitor: Visitor, at: int) -> None:
        """Tell what has failed to follow by the time of an event."""
        chunk = course.chunk
        until = max(chunk.stream_time.item(at) - self._config.stream_delay_ms, chunk.ts.item(at) - 1)
        if until >= visitor.due:
            self._wake(course, key, visitor, until, course.starts[int(chunk.session[at])], at)

    def _reply(self, course: Course, reply: Reply) -> None:
        event = reply.event
        tenant, session = event.tenant_id, event.session_id
        if isinstance(event, InterventionApproval) and may_be_of(event.intervention_id, tenant, session):
            # By stream time: the tick of its own time may be closed by now, or lie years ahead.
            place, since = Place(reply.at, reply.stream_time), min(event.ts, reply.stream_time)
            course.want(place, session_key(tenant, session), covering_tick(reply.stream_time), since)
        answer = Answer(event, reply.topic, course.chunk.partition, reply.offset, reply.payload, reply.stream_time)
        course.tell(Place(reply.at, reply.stream_time), answer, first=False)

    def _tell(self, course: Course, key: str, place: Place, *emotions: Emotion) -> None:
        course.tell(place, Felt(emotions, course.time_of(place)))
        course.want(place, key, covering_tick(emotions[0].ts), emotions[0].ts)

    # What has failed to follow.

    def _wait(self, stream: Stream, key: str, visitor: Visitor, row: int) -> None:
        """Note what a visitor waits for, and keep his alarms, as his last event left them."""
        self._table.note(row, visitor)
        if visitor.waits:
            stream.alarms.set(key, visitor)

    def _wait_out(self, rows: Int64s, until: int) -> list[int]:
        """Give the matcher the silences of visitors (rows) that have run out by ``until``; return whose."""
        table = self._table
        found, which = np.nonzero(table.due[rows] <= min(until, NEVER - 1))
        for row, silence in zip(rows[found].tolist(), which.tolist(), strict=True):
            began = table.armed[row, silence]
            visitor = table.visitor[row] or self._meet(row, began.user_id)
            self._matcher.begin(visitor, self._matcher.roles.silences[silence], began)
            table.arm(silence, {row: (NEVER, None)})
        return list(dict.fromkeys(rows[found].tolist()))

    def _wake(self, course: Course, key: str, visitor: Visitor, until: int, start: int, at: int | None = None) -> None:
        """Tell what has failed to follow by ``until``; ``at`` is the event that tells so, if one does."""
        for shown in self._matcher.wake(visitor, until, start):
            due = shown.ts + self._config.stream_delay_ms
            place = course.place_of(due) if at is None else min(at, course.place_of(due))
            self._tell(course, key, Place(place, due), emotion(key, visitor.user_id, shown))

    def _ring(self, course: Course, reached: int) -> None:
        sessions, table, stream = self._sessions, self._table, course.stream
        if reached >= table.next_due:
            rows = np.flatnonzero((table.due <= min(reached, NEVER - 1)).any(axis=1))
            rows = rows[sessions.partition[table.session[rows]] == course.chunk.partition]
            for row in self._wait_out(rows, reached):
                self._wait(stream, sessions.keys[table.session[row]], table.visitor[row], row)
            table.next_due = int(table.due.min(initial=NEVER))
        for alarm in list(stream.alarms.ring(reached)):
            session = sessions.row_by_key.get(alarm.key)
            if session is None:
                continue
            (key,) = sessions.keys_of(np.array([session]), _FIRST, np.array([alarm.digest], np.uint64)).tolist()
            found = table.row_by_key.get(key)
            visitor = None if found is None else table.visitor[found]
            if visitor is not None and found is not None:
                self._wake(course, alarm.key, visitor, reached, int(sessions.start[session]))
                self._wait(stream, alarm.key, visitor, found)

    # When sessions end.

    def _over_by_event(self, course: Course, key: str, at: int, start: int) -> None:
        """End a session at an event that says so."""
        ended = int(course.chunk.ts[at])
        until = max(course.time_at(at) - self._config.stream_delay_ms, ended - 1)
        self._free(course, key, ended, start, until, Place(at, AT_EVENT))
        course.gone[key] = None

    def _over_by_silence(self, course: Course, key: str, ended: int, start: int, at: int) -> None:
        """End a session that has been silent until ``ended`` (ms), at the latest before the event ``at``."""
        due = ended + self._config.stream_delay_ms
        self._free(course, key, ended, start, ended, Place(min(course.place_of(due), at), due))

    def _free(self, course: Course, key: str, ended: int, start: int, until: int, place: Place) -> None:
        """Tell what has failed to follow until then and that the session is over, and free what was kept of it."""
        last = ended if place.due == AT_EVENT else ended - 1  # what comes at the very end of a silence begins anew
        table, session = self._table, self._sessions.row_by_key[key]
        rows = table.of_sessions(np.array([session]))
        number = course.session_of(key)
        if number is not None:
            rows = course.leave(rows, number)
        self._wait_out(rows, until)
        known = [visitor for visitor in table.visitor[rows].tolist() if visitor is not None]
        for visitor in sorted((v for v in known if v.waits), key=attrgetter("due", "digest")):
            self._wake(course, key, visitor, until, start, place.at)
        for visitor in known:
            course.stream.alarms.forget(visitor)
        table.remove(rows)
        table.idle.drop(session)
        course.tell(place, Over(*parts(key), min(ended, MAX_TS), course.time_of(place)))
        for tick in course.stream.wanted.over(key, ended):
            course.scored(place, key, tick, None)
        course.stream.ended[key] = (start, last)

    def _end_idle(self, course: Course, reached: int) -> None:
        sessions, stream = self._sessions, course.stream
        if reached < stream.idle_at:
            return
        rows, stream.idle_at = sessions.idle(course.chunk.partition, reached, self._config)
        for row in rows.tolist():
            ended = int(sessions.last[row]) + self._config.session_timeout_ms
            self._over_by_silence(course, sessions.keys[row], ended, int(sessions.start[row]), len(course.chunk))
        sessions.remove(rows)

    def _sweep(self, partition: int, stream: Stream) -> None:
        """Free what no rule can need any more of those who do nothing."""
        sessions = self._table.session
        rows = np.flatnonzero(sessions >= 0)
        rows = rows[self._sessions.partition[sessions[rows]] == partition]
        for visitor in sweep(self._table, self._matcher, rows, self._oldest(stream)):
            stream.alarms.forget(visitor)

    def _oldest(self, stream: Stream) -> int:
        """Return from when on (ms) events may still come: a pane behind the ticks that are closed."""
        return stream.clock - self._config.stream_delay_ms - PANE_MS

    # What ticks tell.

    def _of_ticks(self, course: Course, noticed: Noticed, reached: int) -> None:
        """Tell anomalies, and the scores that are wanted, where their ticks became due."""
        stream = course.stream
        for anomaly in noticed.anomalies:
            key = session_key(anomaly.tenant_id, anomaly.session_id)
            place = self._tick_place(course, key, anomaly.ts)
            course.tell(place, Seen(anomaly, course.time_of(place)), first=True)
            course.want(place, key, anomaly.ts, anomaly.ts)
            for tick in stream.wanted.over(key, stream.ended.get(key, NEVER_ENDED)[1]):
                course.scored(place, key, tick, None, first=True)
        for key, tick, score, earlier in stream.wanted.take(noticed.closed, self._is_unquiet, stream.clock):
            place = BEFORE_ALL if earlier else self._tick_place(course, key, tick)
            course.scored(place, key, tick, score, first=True)
        for key, tick in stream.wanted.missing(reached):
            # By stream time alone: an event that is beyond it in time tells nothing of a tick that no session had.
            place = self._due_place(course, tick)
            course.scored(place, key, tick, 0.0 if self._lived(stream, key, tick) else None, first=True)
        if stream.ended:
            stream.ended = {
                key: (start, ended) for key, (start, ended) in stream.ended.items() if ended > reached - PANE_MS
            }

    def _is_unquiet(self, key: str) -> bool:
        return self._sessions.row_by_key.get(key) in self._table.unquiet

    def _lived(self, stream: Stream, key: str, tick: int) -> bool:
        """Return whether a session lived at a tick that was not closed for it, because nothing went on."""
        row = self._sessions.row_by_key.get(key)
        if row is not None and self._sessions.start[row] <= tick:
            return True
        start, ended = stream.ended.get(key, NEVER_ENDED)
        return start <= tick <= ended

    def _tick_place(self, course: Course, key: str, tick: int) -> Place:
        """Return where a tick became due: by stream time, or before that by the session's watermark."""
        place = self._due_place(course, tick)
        session = course.session_of(key)
        first = place.at if session is None else course.reaches(session, tick)
        return Place(first, AT_EVENT) if first < place.at else place

    def _due_place(self, course: Course, tick: int) -> Place:
        due = tick + self._config.stream_delay_ms
        return Place(course.place_of(due), due)

    def snapshot(self, shards: int = 1) -> bytes:
        """Pack the whole state into bytes; ``shards`` is how many there are, which a restored one must agree with."""
        sessions = self._sessions
        rows = np.array(sorted(sessions.row_by_key.values()), np.int64)
        oldest = min((self._oldest(stream) for stream in self._streams.values()), default=LONG_AGO)
        return SNAPSHOTS.pack(
            Remembered(
                shards=shards,
                rules=self._rules.digest,
                keys=[sessions.keys[row] for row in rows.tolist()],
                columns=pack({}, sessions.columns(rows)),
                visitors=self._table.packed(rows, oldest),
                clocks={partition: stream.clock for partition, stream in self._streams.items()},
                swept={partition: stream.swept for partition, stream in self._streams.items()},
                wanted={partition: stream.wanted.ticks for partition, stream in self._streams.items()},
                kept={partition: stream.wanted.kept for partition, stream in self._streams.items()},
                ended={partition: stream.ended for partition, stream in self._streams.items()},
                recent={partition: stream.recent.packed() for partition, stream in self._streams.items()},
            )
        )

    @classmethod
    def restore(cls, rules: Rules, config: WindowConfig, packed: bytes, shards: int = 1) -> "Diagnosis":
        """Return the shard that a snapshot was taken of; under other rules than then, visitors are met anew.

        Raises:
            TerminalError: the snapshot is another release's, or of another number of shards.
        """
        found = SNAPSHOTS.unpack(packed, shards)
        diagnosis = cls(rules, config)
        sessions = diagnosis._sessions
        rows = sessions.add(found.keys)
        for name, column in unpack(found.columns)[1].items():
            getattr(sessions, name)[rows] = column
        for partition, clock in found.clocks.items():
            wanted = Wanted(found.wanted[partition], found.kept[partition])
            ended = found.ended[partition]
            recent = Recent.restored(found.recent[partition])
            stream = Stream(clock, found.swept[partition], Alarms(), wanted, ended, recent=recent)
            diagnosis._streams[partition] = stream
        for row in diagnosis._table.restore(found.visitors, rows, same_rules=found.rules == rules.digest):
            session = int(diagnosis._table.session[row])
            stream = diagnosis._streams[int(sessions.partition[session])]
            diagnosis._wait(stream, sessions.keys[session], diagnosis._table.visitor[row], row)
        return diagnosis
