"""What a shard of interventions remembers, and how it is packed."""

from typing import Final, Literal

import msgspec

from operators.snapshot import Snapshots
from schemas.outbound import Intervention

SNAPSHOT_VERSION: Final = 2

BEFORE, AFTER = 1, 2
"""The scores of an effect, as bits of those that have come."""


def session_key(tenant: str, session: str) -> str:
    """Return what a session is kept by; no id of a tenant or session holds a NUL."""
    return f"{tenant}\0{session}"


class Recipient(msgspec.Struct, array_like=True, gc=False):
    """Whom cooldowns and rate limits are counted for.

    ``cooled``: when each intervention's cooldown began last. ``counted``: when something was fired or held out for him
    (milliseconds), ascending, as far back as a rate limit may look.
    """

    cooled: dict[str, int]
    counted: list[int]

    def packed(self) -> bytes:
        """Return what a session keeps."""
        return _encode(self)

    @classmethod
    def unpacked(cls, packed: bytes | None) -> "Recipient":
        """Return what a session kept, of whom it kept nothing one of whom nothing is known."""
        return cls({}, []) if packed is None else _recipient(packed)


def room_key(tenant: str, session: str, start: int) -> str:
    """Return what a session as a whole is kept by: the next one of the same name is another."""
    return f"{session_key(tenant, session)}\0{start}"


class Session(msgspec.Struct, array_like=True):
    """A session in which anything was fired, pending or held out, for its users or for the room as a whole.

    ``recipients`` are by user, packed; the empty name is the room itself. ``episodes`` are the anomalies that hold,
    each with what was done about it and is done once. ``polled``: polls that it has had. ``scores``: those that were
    told lately, by tick. ``touched``: when something was last done (ms), in ``partition``.
    """

    recipients: dict[str, bytes] = {}
    episodes: dict[str, list[str]] = {}
    polled: int = 0
    scores: dict[int, float | None] = {}
    touched: int = 0
    partition: int = 0


class Known(msgspec.Struct, array_like=True, gc=False):
    """An intervention that was fired, held out, or waits or waited for approval; kept by tenant and id.

    ``status`` is that of its record, or ``held_out``; ``ts`` is when it got it. ``pending`` is the record while it
    waits. ``partition`` is that of its session. ``tick`` is the one whose score it is measured from; ``before`` and
    ``after`` are the scores that have come (``heard``). ``effects``: effect records so far. ``decided``: the
    approval that decided, as event and time. ``room`` is what the session as a whole is kept by, where it is for that.
    ``told``: the time that each outcome was first told with, by the number of its event.
    """

    status: str
    ts: int
    partition: int
    session_id: str
    intervention: str
    user_id: str | None
    trigger_kind: Literal["emotion", "anomaly"]
    trigger_id: str
    trigger_name: str
    tick: int
    before: float | None = None
    after: float | None = None
    heard: int = 0
    converted: bool = False
    effects: int = 0
    decided: str = ""
    shown_for_ms: int = 0
    pending: Intervention | None = None
    room: str = ""
    told: dict[int, int] | None = None

    @classmethod
    def of(cls, record: Intervention, partition: int, tick: int, shown_for_ms: int = 0, room: str = "") -> "Known":
        """Return what is to be remembered of a record."""
        return cls(
            "held_out" if record.status == "suppressed" else record.status,
            record.ts,
            partition,
            record.session_id,
            record.intervention,
            record.user_id,
            record.trigger.kind,
            record.trigger.id,
            record.trigger.name,
            tick,
            shown_for_ms=shown_for_ms,
            pending=record if record.status == "pending" else None,
            room=room,
        )

    @property
    def waits(self) -> bool:
        """Whether something is still to come by itself: a score, or the end of the wait for approval."""
        return self.pending is not None or (self.status in ("fired", "held_out") and self.heard != BEFORE | AFTER)

    @property
    def held_out(self) -> bool:
        """Whether nothing was shown, for comparison."""
        return self.status == "held_out"

    def packed(self) -> "bytes | Known":
        """Return what is kept of it: packed, unless so much came back that it would take long to look at it again."""
        return self if self.told and len(self.told) > _FEW else _encode(self)

    @classmethod
    def unpacked(cls, packed: "bytes | Known") -> "Known":
        """Return what was packed."""
        return packed if isinstance(packed, Known) else _known(packed)


_FEW: Final = 16
_encode = msgspec.msgpack.Encoder().encode
_known = msgspec.msgpack.Decoder(Known).decode
_recipient = msgspec.msgpack.Decoder(Recipient).decode


class Remembered(msgspec.Struct):
    """The whole state of a shard.

    ``clocks`` (stream time, milliseconds) are by partition, ``sessions`` by tenant and session joined by a NUL,
    ``known`` by tenant and id, those that were followed last at the end; ``spent`` (fired interventions) by tenant and
    hour. What there is much of is packed as it changes, so that a snapshot has but to join bytes.
    """

    version: int = SNAPSHOT_VERSION
    shards: int = 1
    clocks: dict[int, int] = msgspec.field(default_factory=dict)
    swept: int = 0
    rooms: dict[str, Session] = msgspec.field(default_factory=dict)
    sessions: dict[str, Session] = msgspec.field(default_factory=dict)
    known: dict[str, dict[str, bytes | Known]] = msgspec.field(default_factory=dict)
    spent: dict[str, dict[int, int]] = msgspec.field(default_factory=dict)


SNAPSHOTS: Final = Snapshots(Remembered, "interventions", SNAPSHOT_VERSION)
