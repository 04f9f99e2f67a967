"""Which of the watched events came lately, to take out repeats: columns, looked at only where times are equal."""

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from operators.columns import Int64s, pack, unpack
from operators.config import PANE_MS, WindowConfig
from operators.presence import LONG_AGO
from operators.texts import Texts

UInt64s = npt.NDArray[np.uint64]

_MOST: Final = 256
"""Ids that are packed together: to look at one unpacks those beside it."""


@dataclass(slots=True)
class _Span:
    """What came within some seconds: visitor and time of each event, in parts; and the ids, in order, packed."""

    parts: list[tuple[UInt64s, Int64s]] = field(default_factory=list)
    ids: list[Texts] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    count: int = 0
    latest: int = LONG_AGO

    def add(self, keys: UInt64s, ts: Int64s, ids: Texts) -> None:
        self.parts.append((keys, ts))
        self.ids.append(ids)
        self.starts.append(self.count)
        self.count += ids.number
        self.latest = max(self.latest, int(ts.max()))

    def joined(self) -> tuple[UInt64s, Int64s]:
        if len(self.parts) > 1:
            keys, times = zip(*self.parts, strict=True)
            self.parts = [(np.concatenate(keys), np.concatenate(times))]
        return self.parts[0]

    def id_of(self, number: int) -> str:
        which = bisect_right(self.starts, number) - 1
        return self.ids[which].unpacked()[number - self.starts[which]]


class Recent:
    """The watched events of one partition as long as another of their time would still be accepted."""

    def __init__(self) -> None:
        self._spans: dict[int, _Span] = {}

    def add(self, clock: int, keys: UInt64s, ts: Int64s, ids: list[str]) -> None:
        """Remember events that were taken when stream time was ``clock`` (ms)."""
        if not len(keys):
            return
        span = self._spans.setdefault(clock // PANE_MS, _Span())
        for at in range(0, len(keys), _MOST):
            part = slice(at, at + _MOST)
            span.add(keys[part], ts[part], Texts.of(ids[part]))

    def holds(self, key: int, ts: int, event_id: str) -> bool:
        """Tell whether this event of a visitor came before."""
        for span in self._spans.values():
            if span.latest >= ts:
                keys, times = span.joined()
                same = np.flatnonzero((times == ts) & (keys == np.uint64(key)))
                if any(span.id_of(number) == event_id for number in same.tolist()):
                    return True
        return False

    def drop(self, clock: int, config: WindowConfig) -> None:
        """Forget those of whose time no other is accepted any more at a stream time (ms)."""
        oldest = clock - config.stream_delay_ms - PANE_MS
        for number in [number for number, span in self._spans.items() if span.latest < oldest]:
            del self._spans[number]

    def packed(self) -> list[tuple[int, bytes, Texts]]:
        """Return what a snapshot keeps."""
        out = []
        for clock, span in self._spans.items():
            keys, ts = span.joined()
            out.append((clock, pack({}, {"key": keys, "ts": ts}), Texts.joined(span.ids)))
        return out

    @classmethod
    def restored(cls, packed: list[tuple[int, bytes, Texts]]) -> "Recent":
        """Return what a snapshot kept."""
        recent = cls()
        for number, held, ids in packed:
            _, columns = unpack(held)
            recent.add(number * PANE_MS, columns["key"], columns["ts"], ids.unpacked())
        return recent
