"""The sorter: one look at an event of the telemetry tells which patterns it matches, while it is at hand."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from hashlib import blake2b
from operator import attrgetter, or_
from typing import Any, Final, NamedTuple

from operators.digests import digest
from schemas.inbound import Event

TRACKED: Final = 1
"""The bit of an event that the matcher must see because later events are held against it."""

OBSERVED: Final = -1
"""The mask of an emotion that another system diagnosed."""


class Past(NamedTuple):
    """What other events are held against: numbers, 0 for nothing, and values, None for nothing.

    Of each pattern that asks for a turn a number for the value of its field (``turns``); one for the ``page``, and one
    for the page with its path (``place``); the values of the fields that have to be different; the place on the screen.
    """

    turns: tuple[int, ...]
    page: int
    place: int
    distinct: tuple[Any, ...]
    near: tuple[float, float] | None = None


_LONG_PATH: Final = 128
"""Characters of a path up to which it is remembered as it is."""

_CACHE: Final = 50_000
"""Combinations of values that are remembered with what comes of them; beyond that the table starts anew."""

_LONG: Final = 512
"""Characters of texts up to which it is remembered what they match: a page may send as many long ones as it likes."""

_LONG_TEXT: Final = 128
"""Characters of texts up to which their numbers are remembered."""


@dataclass(frozen=True, slots=True)
class Band:
    """A number that must lie in ``low..high``, both included."""

    value: Callable[[Any], float]
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way in which an event of a type matches: tests of texts and truths by field, and bands of numbers."""

    bit: int
    tests: tuple[tuple[str, Callable[[Any], bool]], ...]
    bands: tuple[Band, ...]


class Compared(NamedTuple):
    """What rules compare of the events of a type, if their masks have one of some ``bits``, which are for all types.

    ``turns`` and ``distinct`` are fields, None where the type has none or no rule asks; ``near``: the place on the
    screen.
    """

    bits: int = 0
    turns: tuple[str | None, ...] = ()
    distinct: tuple[str | None, ...] = ()
    near: bool = False


NOTHING: Final = Compared()


class Sorter:
    """Tells the mask of events of one type, and of an event what is held against those before and after it."""

    def __init__(self, alternatives: tuple[Alternative, ...], compared: Compared = NOTHING, *, views: bool) -> None:
        """Sort events by these; if they are ``views``, pages before and after are held against them."""
        fields = dict.fromkeys(name for alternative in alternatives for name, _ in alternative.tests)
        self._names = tuple(fields)
        self._key: Callable[[Any], Any] = attrgetter(*self._names) if fields else _nothing
        self._alternatives = alternatives
        self._always = TRACKED if views else 0
        self._known: dict[Any, tuple[int, tuple[tuple[int, tuple[Band, ...]], ...]]] = {}
        self._compared = compared
        names = [*compared.turns, *(("page", "url") if views else ()), *compared.distinct]
        self._past_names = tuple(dict.fromkeys(name for name in names if name is not None))
        self._past_key: Callable[[Any], Any] = attrgetter(*self._past_names) if self._past_names else _nothing
        self._past: dict[Any, Past] = {}
        self._numbers = _Numbers()
        self.of_past = compared.bits | self._always
        """The bits of masks of events of which ``past`` is asked."""

    @property
    def is_needed(self) -> bool:
        """Whether events of the type may match at all."""
        return bool(self._alternatives or self._always)

    def mask(self, event: Any) -> int:
        """Return the bits of the patterns that an event matches; 0: no rule asks for it."""
        key = self._key(event)
        mask, bands = self._known.get(key) or self._look(key)
        return _in_bands(mask, bands, event) if bands else mask

    def _look(self, key: Any) -> tuple[int, tuple[tuple[int, tuple[Band, ...]], ...]]:
        """Work out what texts and truths alone decide, and which bands are then left to be looked at."""
        values = dict(zip(self._names, key if len(self._names) > 1 else (key,), strict=False))
        mask = self._always
        open_bands = []
        for alternative in self._alternatives:
            if all(test(values[name]) for name, test in alternative.tests):
                if alternative.bands:
                    open_bands.append((alternative.bit, alternative.bands))
                else:
                    mask |= alternative.bit
        found = (mask, tuple(open_bands))
        _remember(self._known, key, values, found, _LONG)
        return found

    def past(self, event: Any) -> Past:
        """Return what others are held against of an event."""
        key = self._past_key(event)
        found = self._past.get(key) or self._look_at(key)
        return Past(*found[:-1], _place(event)) if self._compared.near else found

    def _look_at(self, key: Any) -> Past:
        values = dict(zip(self._past_names, key if len(self._past_names) > 1 else (key,), strict=False))
        values[None] = None
        page = place = 0
        if self._always:
            page = self._numbers[values["page"]]
            place = self._numbers[f"{values['page']} {path_of(values['url'])}"]
        turned = (values[field] for field in self._compared.turns)
        turns = (self._numbers[value] if isinstance(value, str) else number_of(value) for value in turned)
        distinct = (short_path(values[field]) if field == "url" else values[field] for field in self._compared.distinct)
        found = Past(tuple(turns), page, place, tuple(distinct))
        _remember(self._past, key, values, found, _LONG_TEXT)
        return found


def _in_bands(mask: int, open_bands: tuple[tuple[int, tuple[Band, ...]], ...], event: Event) -> int:
    """Add the bits of those alternatives whose numbers lie within their bands."""
    for bit, bands in open_bands:
        for band in bands:
            if not band.low <= band.value(event) <= band.high:
                break
        else:
            mask |= bit
    return mask


_place = attrgetter("x", "y")


def union(bits: Iterable[int]) -> int:
    """Return the bits of all masks.

    >>> union([1, 4, 5])
    5
    """
    return reduce(or_, bits, 0)


def _nothing(_: Any) -> None:
    return None


def number_of(value: object) -> int:
    """Return a number for a value, the same everywhere; 0 for None."""
    if isinstance(value, float):
        value += 0.0  # -0.0 is the same as 0.0 to whoever remembers it
    return 0 if value is None else digest(str(value).replace("\0", "\\0"))


class _Numbers(dict[str, int]):
    """The numbers of texts that were asked for, not of long ones: urls of one page may all be others."""

    def __missing__(self, value: str) -> int:
        number = number_of(value)
        _remember(self, value, {0: value}, number, _LONG_TEXT)
        return number


def _remember(known: dict[Any, Any], key: Any, values: Mapping[Any, Any], found: Any, longest: int) -> None:
    if len(known) >= _CACHE:
        known.clear()
    if sum(len(value) for value in values.values() if isinstance(value, str)) <= longest:
        known[key] = found


def path_of(url: str) -> str:
    """Return a url without query, fragment and trailing slash: what makes two views views of the same page.

    >>> path_of("https://shop.example/shoes/?size=9#top")
    'https://shop.example/shoes'
    """
    return url.partition("?")[0].partition("#")[0].rstrip("/")


def short_path(url: str) -> str:
    """Return the path, or a digest of a long one: it is remembered of every visitor, and a page says what it likes."""
    path = path_of(url)
    return path if len(path) <= _LONG_PATH else blake2b(path.encode(), digest_size=16).hexdigest()
