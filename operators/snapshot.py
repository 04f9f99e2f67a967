"""Snapshots of a shard's state: packed into bytes, and taken up again only by who can go on from them."""

from typing import Any, Generic, TypeVar

import msgspec

from schemas.errors import TerminalError

State = TypeVar("State", bound=msgspec.Struct)


class SnapshotError(TerminalError):
    """State was packed by another release, or for another number of shards."""


class _Head(msgspec.Struct):
    """What every snapshot holds beside its state: the version of its form, and how many shards there were."""

    version: int
    shards: int


class Snapshots(Generic[State]):
    """Packs states of one type, a struct that has ``version`` and ``shards`` among its fields."""

    def __init__(self, of: type[State], what: str, version: int) -> None:
        """Pack states of one type; ``what`` names it to people, ``version`` is the one that is read."""
        self._what = what
        self._version = version
        self._decode = msgspec.msgpack.Decoder(of).decode
        self._decode_head = msgspec.msgpack.Decoder(_Head).decode
        self._encode = msgspec.msgpack.Encoder().encode

    def pack(self, state: State) -> bytes:
        """Pack a state; equal states give equal bytes."""
        return self._encode(state)

    def unpack(self, packed: bytes, shards: int) -> State:
        """Return the packed state.

        Raises:
            SnapshotError: it was written by another release, or with another number of shards.
        """
        head = self._decode_head(packed)
        check(self._what, head.version, head.shards, reads=self._version, wants=shards)
        return self._decode(packed)


def check(what: str, version: Any, shards: Any, *, reads: int, wants: int) -> None:
    """Refuse a snapshot that this release, or this number of shards, can't go on from.

    Raises:
        SnapshotError: it has another version than is read, or another number of shards than is wanted.
    """
    if version != reads:
        raise SnapshotError(
            f"the recovery store holds {what} of version {version}; this release reads {reads}. Go on with the release "
            'that wrote it, or start with an empty recovery folder: with kafka.start = "committed" that reads on from '
            "the offsets committed to the group, but knows nothing of what was (docs/operations.md, Upgrade)"
        )
    if shards != wants:
        raise SnapshotError(
            f"the recovery store holds {what} in {shards} shards, got window.shards = {wants}: state would be in two "
            f"places. Set it to {shards}, or start with an empty recovery folder (docs/operations.md, Upgrade)"
        )
