"""Texts packed one behind another while they are at hand: few objects to keep, and to be joined by a snapshot."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[str]).decode


class Texts(NamedTuple):
    """How many there are, and all of them as msgpack, without the head that would count them."""

    number: int = 0
    packed: bytes = b""

    @classmethod
    def of(cls, texts: list[str]) -> "Texts":
        """Pack texts.

        >>> Texts.joined([Texts.of(["a"]), Texts.of(["b", "c"])]).unpacked()
        ['a', 'b', 'c']
        """
        number = len(texts)
        return cls(number, _encode(texts)[1 if number < 1 << 4 else 3 if number < 1 << 16 else 5 :])

    @classmethod
    def joined(cls, parts: "Sequence[Texts]") -> "Texts":
        """Put packed texts one behind another."""
        return cls(sum(part.number for part in parts), b"".join([part.packed for part in parts]))

    def unpacked(self) -> list[str]:
        """Return the texts."""
        return _decode(b"\xdd" + self.number.to_bytes(4) + self.packed)


_PART = 128
"""Texts that are packed together: to look at one unpacks those beside it."""


class TextColumn:
    """Texts by place, packed part by part: a quarter of the room that objects take, and of the time to let them go."""

    def __init__(self, texts: list[str] | None = None) -> None:
        self._parts: list[Texts] = []
        self.extend(texts or [])

    def __len__(self) -> int:
        return sum(part.number for part in self._parts)

    def extend(self, texts: list[str]) -> None:
        """Append texts.

        Raises:
            ValueError: the number of those before is no multiple of 128.
        """
        if self._parts and self._parts[-1].number < _PART and texts:
            raise ValueError(f"expected a multiple of {_PART} texts before, got {len(self)}")
        self._parts += [Texts.of(texts[at : at + _PART]) for at in range(0, len(texts), _PART)]

    def at(self, places: Iterable[int]) -> list[str]:
        """Return the texts at some places.

        >>> TextColumn(["a", "b", "c"]).at([2, 0])
        ['c', 'a']
        """
        out = []
        opened: dict[int, list[str]] = {}
        for place in places:
            part, within = divmod(place, _PART)
            texts = opened.get(part)
            if texts is None:
                texts = opened[part] = self._parts[part].unpacked()
            out.append(texts[within])
        return out

    def packed(self) -> Texts:
        """Return all of them."""
        return Texts.joined(self._parts)
