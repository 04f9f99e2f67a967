"""What one client is still owed: in order, bounded, and of engagement only the newest of each session."""

from collections import OrderedDict
from collections.abc import Iterator

from sinks.websocket.messages import Envelope

REPLACED_CHANNEL = "engagement"
"""Its records replace one another: whoever lags wants the score of now, not that of a minute ago."""

Slot = int | tuple[str, str]


class Outbox:
    """A queue of messages, replies (bytes) and records (envelopes). ``size`` is in bytes.

    A replaced record's successor goes to the end of the queue, so that what a client gets is in order of arrival; the
    session that has waited longest is then always in front.
    """

    __slots__ = ("_next", "_waiting", "size")

    def __init__(self) -> None:
        self._waiting: OrderedDict[Slot, Envelope | bytes] = OrderedDict()
        self._next = 0
        self.size = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def reply(self, data: bytes) -> None:
        """Put a reply at the end."""
        self._waiting[self._number()] = data
        self.size += len(data)

    def record(self, envelope: Envelope) -> bool:
        """Put a record at the end; tells whether an older one of its session was taken out for it."""
        slot: Slot
        if envelope.channel == REPLACED_CHANNEL:
            slot = (envelope.tenant, envelope.session)
            older = self._waiting.pop(slot, None)
        else:
            slot, older = self._number(), None
        self._waiting[slot] = envelope
        self.size += len(envelope.data)
        if isinstance(older, Envelope):
            self.size -= len(older.data)
        return older is not None

    def take(self, at_most: int) -> Iterator[Envelope | bytes]:
        """Take messages from the front until ``at_most`` bytes are reached, and at least one if there is one."""
        taken = 0
        while self._waiting and taken < at_most:
            message = self._waiting.popitem(last=False)[1]
            length = len(message.data if isinstance(message, Envelope) else message)
            taken += length
            self.size -= length
            yield message

    def clear(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self.size = 0

    def _number(self) -> int:
        self._next += 1
        return self._next
