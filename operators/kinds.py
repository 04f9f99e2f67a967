"""Numbers for the types of events, so that a column holds them, and the families that the window tells apart."""

import numpy as np
import numpy.typing as npt

from schemas import inbound
from schemas.registry import INBOUND

Flags = npt.NDArray[np.bool_]

KIND: dict[type[inbound.Event], int] = {entry.struct: code for code, entry in enumerate(INBOUND.values())}
"""A small number for each inbound struct, in the registry's order. Part of the snapshot: append, never reorder."""

_NAMES = list(INBOUND)


def _family(*prefixes: str) -> Flags:
    """Return a table, indexed by kind, that tells the types whose name starts with one of the prefixes."""
    table = np.zeros(256, np.bool_)
    table[: len(_NAMES)] = [name.startswith(prefixes) for name in _NAMES]
    return table


WINDOWED = np.zeros(256, np.bool_)
WINDOWED[: len(_NAMES)] = [entry.windowed for entry in INBOUND.values()]

IS_CHAT = _family("chat.message")
IS_REACTION = _family("reaction")
IS_VOTE = _family("poll.vote")
IS_TELEMETRY = _family("telemetry.")
IS_JOIN = _family("presence.join")
IS_LEAVE = _family("presence.leave")
IS_END = _family("session.ended")
IS_POLL = _family("poll.")
IS_ACT = IS_CHAT | IS_REACTION | IS_VOTE | IS_TELEMETRY
"""Acts: what makes a user active, and present without a join."""

IS_PERSONAL = IS_ACT | IS_JOIN | IS_LEAVE
"""Events that say something about the presence of their user."""

ORDER_MATTERS = IS_JOIN | IS_LEAVE | IS_POLL | IS_END
"""Events whose place among others of the same millisecond changes the outcome."""

POLL_OPENED = KIND[inbound.PollOpened]
POLL_VOTE = KIND[inbound.PollVote]
POLL_CLOSED = KIND[inbound.PollClosed]
