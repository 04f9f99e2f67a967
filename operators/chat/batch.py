"""The chat of one batch that belongs to one shard: what travels from the decoder to the answers' shards."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from schemas.inbound import ChatAnswer, HandoffResolved

Chat = ChatAnswer | HandoffResolved

CHAT: Final = (ChatAnswer, HandoffResolved)
"""The types of events that are chat."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Chat]).decode


@dataclass(frozen=True, slots=True)
class ChatBatch:
    """Answers and resolved hand-offs of one partition stream for one shard, in stream order; there may be none.

    ``stream_time`` is, for each event, the highest record timestamp of the partition up to and including its own, and
    ``clock`` the partition's stream time after the whole batch (milliseconds).
    """

    partition: int
    clock: int
    events: list[Chat]
    stream_time: list[int]

    def __len__(self) -> int:
        return len(self.events)

    def __reduce__(self) -> tuple[Callable[..., "ChatBatch"], tuple[int, int, bytes, list[int]]]:
        """Pickle the events as one blob, not one by one."""
        return _unpickle, (self.partition, self.clock, _encode(self.events), self.stream_time)


def _unpickle(partition: int, clock: int, events: bytes, stream_time: list[int]) -> ChatBatch:
    return ChatBatch(partition, clock, _decode(events), stream_time)
