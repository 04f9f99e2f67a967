"""Which of the watched events came lately, to take out repeats: columns, looked at only where times are equal."""

from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from operators.columns import Int64s, pack, unpack
from operators.config import PANE_MS, WindowConfig
from operators.presence import LONG_AGO

UInt64s = npt.NDArray[np.uint64]


@dataclass(slots=True)
class _Span:
    """What came within some seconds: visitor, time and number of the id of each event, in parts; and the lists of ids.

    A list is that of a whole batch, which the window keeps as long as well; an event's number is its place behind all
    lists before.
    """

    parts: list[tuple[UInt64s, Int64s, Int64s]] = field(default_factory=list)
    lists: list[list[str]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ids: int = 0
    latest: int = LONG_AGO

    def joined(self) -> tuple[UInt64s, Int64s, Int64s]:
        if len(self.parts) > 1:
            keys, times, numbers = zip(*self.parts, strict=True)
            self.parts = [(np.concatenate(keys), np.concatenate(times), np.concatenate(numbers))]
        return self.parts[0]

    def id_of(self, number: int) -> str:
        which = bisect_right(self.starts, number) - 1
        return self.lists[which][number - self.starts[which]]


class Recent:
    """The watched events of one partition as long as another of their time would still be accepted."""

    def __init__(self) -> None:
        self._spans: dict[int, _Span] = {}

    def add(self, clock: int, keys: UInt64s, ts: Int64s, ids: list[str], places: Int64s) -> None:
        """Remember events that were taken when stream time was ``clock`` (ms), with the places of their ids."""
        if not len(keys):
            return
        span = self._spans.setdefault(clock // PANE_MS, _Span())
        if not span.lists or span.lists[-1] is not ids:
            span.lists.append(ids)
            span.starts.append(span.ids)
            span.ids += len(ids)
        span.parts.append((keys, ts, places + span.starts[-1]))
        span.latest = max(span.latest, int(ts.max()))

    def holds(self, key: int, ts: int, event_id: str) -> bool:
        """Tell whether this event of a visitor came before."""
        for span in self._spans.values():
            if span.latest >= ts:
                keys, times, numbers = span.joined()
                same = numbers[(times == ts) & (keys == np.uint64(key))]
                if any(span.id_of(number) == event_id for number in same.tolist()):
                    return True
        return False

    def drop(self, clock: int, config: WindowConfig) -> None:
        """Forget those of whose time no other is accepted any more at a stream time (ms)."""
        oldest = clock - config.stream_delay_ms - PANE_MS
        for number in [number for number, span in self._spans.items() if span.latest < oldest]:
            del self._spans[number]

    def packed(self) -> list[tuple[int, bytes, list[str]]]:
        """Return what a snapshot keeps."""
        out = []
        for clock, span in self._spans.items():
            keys, ts, numbers = span.joined()
            which = np.searchsorted(span.starts, numbers, side="right") - 1
            places = numbers - np.array(span.starts)[which]
            ids = [span.lists[i][place] for i, place in zip(which.tolist(), places.tolist(), strict=True)]
            out.append((clock, pack({}, {"key": keys, "ts": ts}), ids))
        return out

    @classmethod
    def restored(cls, packed: list[tuple[int, bytes, list[str]]]) -> "Recent":
        """Return what a snapshot kept."""
        recent = cls()
        for number, held, ids in packed:
            _, columns = unpack(held)
            recent.add(number * PANE_MS, columns["key"], columns["ts"], ids, np.arange(len(ids)))
        return recent
