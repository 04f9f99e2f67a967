"""What one client is still owed: in order, bounded, and of new engagement only the newest of each session."""

from collections import OrderedDict
from typing import NamedTuple

from sinks.websocket.envelope import REPLACED_CHANNEL, Envelope

Slot = int | tuple[str, str]


class Offer(NamedTuple):
    """An intervention on its way to the client that it is meant for, which is told of when the socket has it."""

    intervention_id: str
    frame: bytes


Message = Envelope | Offer | bytes


class Outbox:
    """A queue of messages: replies (bytes), records (envelopes) and offers. ``size`` is in bytes.

    A replaced record's successor goes to the end of the queue, so that what a client gets is in order of arrival; the
    session that has waited longest is then always in front. What is put to be kept is not replaced: a snapshot and what
    a resumed client missed, which were counted, and what a client that does not lag is about to get.
    """

    __slots__ = ("_next", "_waiting", "size")

    def __init__(self) -> None:
        self._waiting: OrderedDict[Slot, Message] = OrderedDict()
        self._next = 0
        self.size = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: Message) -> None:
        """Put a message at the end, to be kept."""
        self._next += 1
        self._waiting[self._next] = message
        self.size += len(message if isinstance(message, bytes) else message.frame)

    def replace(self, envelope: Envelope) -> bool:
        """Put a new record at the end, not to be kept; tells whether an older one of its session made room for it."""
        if envelope.channel != REPLACED_CHANNEL:
            self.put(envelope)
            return False
        slot = (envelope.tenant, envelope.session)
        older = self._waiting.pop(slot, None)
        self._waiting[slot] = envelope
        self.size += len(envelope.frame)
        if not isinstance(older, Envelope):
            return False
        self.size -= len(older.frame)
        return True

    def take(self, at_most: int) -> list[Message]:
        """Take messages from the front until ``at_most`` bytes are reached, and at least one if there is one."""
        taken: list[Message] = []
        room = at_most
        while self._waiting and room > 0:
            message = self._waiting.popitem(last=False)[1]
            length = len(message if isinstance(message, bytes) else message.frame)
            room -= length
            self.size -= length
            taken.append(message)
        return taken

    def clear(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self.size = 0
