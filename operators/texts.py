"""Texts packed one behind another while they are at hand: a snapshot of many then joins bytes, and looks at no text."""

from collections.abc import Sequence
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
