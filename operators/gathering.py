"""What is taken from the events of a batch, run by run, while they are at hand: columns, and what goes beside them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from operators.chat.batch import Chat
from operators.chunk import Int32s, UInt8s, UInt64s, Watched
from operators.digests import digests, digests_of
from operators.texts import Texts
from schemas.batches import Int64s
from schemas.inbound import InterventionApproval, InterventionOutcome


@dataclass(frozen=True, slots=True)
class Columns:
    """The windowed events of a batch, of shape (n,); ``place`` is where each stood in the batch."""

    place: Int64s
    number: Int32s
    user: UInt64s
    poll: UInt64s
    kind: UInt8s
    ts: Int64s


@dataclass(slots=True)
class Gathered:
    """What is taken from windowed events while they are in the cache, run by run; columns are made of all together."""

    places: list[Int64s] = field(default_factory=lambda: [np.zeros(0, np.int64)])
    numbers: list[Int32s] = field(default_factory=lambda: [np.zeros(0, np.int32)])
    users: list[bytes] = field(default_factory=list)
    polls: list[tuple[int, str]] = field(default_factory=list)
    kinds: list[bytes] = field(default_factory=list)
    times: list[Int64s] = field(default_factory=lambda: [np.zeros(0, np.int64)])
    count: int = 0

    def columns(self) -> Columns:
        """Return the columns."""
        n = self.count
        poll = np.zeros(n, np.uint64)
        if self.polls:
            # A poll's id may hold any character; a NUL is written as what no id with a NUL in it is taken for.
            poll[[at for at, _ in self.polls]] = digests([poll_id.replace("\0", "\\0") for _, poll_id in self.polls])
        return Columns(
            np.concatenate(self.places),
            np.concatenate(self.numbers),
            digests_of(self.users, n),
            poll,
            np.frombuffer(b"".join(self.kinds), np.uint8),
            np.concatenate(self.times),
        )


@dataclass(slots=True)
class Aside:
    """What goes beside the columns of a batch: chat and replies with their places in the batch, and what is watched.

    Of what is ``watched`` the places are those in the columns. Places and ids are packed run by run: small objects that
    stayed would leave holes in memory, and each run take other memory than the one before.
    """

    chats: list[tuple[int, Chat]] = field(default_factory=list)
    replies: list[tuple[int, InterventionOutcome | InterventionApproval]] = field(default_factory=list)
    watched: list[tuple[Int64s, Texts]] = field(default_factory=list)
    masks: list[int] = field(default_factory=list)
    past: list[Any] = field(default_factory=list)

    def watched_events(self) -> Watched:
        """Return what is watched of the whole batch."""
        if not self.watched:
            return Watched()
        at, ids = zip(*self.watched, strict=True)
        return Watched(np.concatenate(at), self.masks, self.past, Texts.joined(ids).unpacked())
