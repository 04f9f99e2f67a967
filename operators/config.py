"""The numbers of windows and scores, with the contract's defaults. All times are integer milliseconds."""

from dataclasses import dataclass, field
from typing import Literal

PANE_MS = 5_000
"""Length of a pane and distance between ticks; ticks are multiples of it. Fixed by the contract, not a setting."""

PANES = 12
"""Panes in a window: 12 of 5 s make the 60 s of every signal."""

WINDOW_MS = PANE_MS * PANES

NEVER = 1 << 61
"""A time or duration beyond all others, far enough from the end of int64 that sums don't overflow."""


@dataclass(frozen=True)
class WindowConfig:
    """How events are placed in time, and how long sessions and presence last.

    ``lateness_ms``: how far a session's watermark stays behind its highest event. ``early_ms``: how far an event may
    be ahead of its record timestamp. Stream time closes a tick after both together. ``join_timeout_ms`` is off
    (``NEVER``) by default: a joined user is present until the leave. ``audience_ms``: how long whoever was present
    counts for the audience.
    """

    lateness_ms: int = 2_000
    early_ms: int = 5_000
    session_timeout_ms: int = 30 * 60_000
    presence_timeout_ms: int = 5 * 60_000
    join_timeout_ms: int = NEVER
    poll_timeout_ms: int = 10 * 60_000
    audience_ms: int = 5 * 60_000

    @property
    def stream_delay_ms(self) -> int:
        """How far behind stream time a tick is closed for a session that is silent."""
        return self.lateness_ms + self.early_ms


@dataclass(frozen=True)
class Weights:
    """Weights of the five terms; the one of ``leaves`` is subtracted."""

    chat: float = 0.30
    poll: float = 0.25
    active: float = 0.25
    reactions: float = 0.10
    leaves: float = 0.10


@dataclass(frozen=True)
class ScoreConfig:
    """How a window becomes a score and a category, and which ticks are emitted.

    ``chat_ceiling`` and ``reactions_ceiling`` are the counts in 60 s at which a term is full: a term is
    ``min(1, ln(1 + n) / ln(1 + ceiling))``. ``boundaries`` are the least scores of VERY_HIGH, HIGH, MODERATE and LOW.
    ``emit`` ``on_change`` writes a tick only if the score moved by ``min_delta`` or ``heartbeat_ms`` went by.
    """

    weights: Weights = field(default_factory=Weights)
    chat_ceiling: int = 20
    reactions_ceiling: int = 10
    boundaries: tuple[float, float, float, float] = (0.8, 0.6, 0.4, 0.2)
    emit: Literal["every_tick", "on_change"] = "every_tick"
    min_delta: float = 0.01
    heartbeat_ms: int = 60_000
