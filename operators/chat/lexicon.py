"""Finds many phrases in one pass over a text's tokens: whole words, the longest first, none counted twice."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress

import msgspec

from operators.chat.text import read


class Hit(msgspec.Struct, frozen=True, gc=False):
    """A phrase that was found: its group, and the tokens ``[start, end)`` that it covers."""

    group: str
    start: int
    end: int


class _Node:
    __slots__ = ("ends", "following")

    def __init__(self) -> None:
        self.following: dict[str, _Node] = {}
        self.ends: list[tuple[int, str]] = []


class Lexicon:
    """Groups of phrases as a tree of words.

    ``lanes`` are lists of groups that exclude each other: where two phrases of one lane overlap, the one that begins
    first counts, and of those that begin together the longest. Groups of different lanes don't see each other.

    At each token the tree is walked as deep as its longest phrase at most, so finding takes time linear in the text
    whatever it repeats; a token that begins no phrase costs one look into a set.

    >>> lexicon = Lexicon([{"sure": ["certain"], "unsure": ["not certain", "might"]}])
    >>> lexicon.find(["it", "might", "not", "certain"])
    [Hit(group='unsure', start=1, end=2), Hit(group='unsure', start=2, end=4)]
    """

    def __init__(self, lanes: Sequence[Mapping[str, Iterable[str]]]) -> None:
        self._root: dict[str, _Node] = {}
        self._lanes = len(lanes)
        for lane, groups in enumerate(lanes):
            for group, phrases in groups.items():
                for phrase in phrases:
                    self._add(lane, group, read(phrase).tokens)
        self._starts = frozenset(self._root)

    def _add(self, lane: int, group: str, words: list[str]) -> None:
        node = _Node()
        following = self._root
        for word in words:
            node = following.setdefault(word, _Node())
            following = node.following
        if words and (lane, group) not in node.ends:
            node.ends.append((lane, group))

    def find(self, tokens: list[str]) -> list[Hit]:
        """Return the phrases found, in the order of their beginnings."""
        root, count = self._root, len(tokens)
        hits: list[Hit] = []
        free = [0] * self._lanes
        for start in compress(range(count), map(self._starts.__contains__, tokens)):
            node = root[tokens[start]]
            at = start + 1
            if not node.ends and (at == count or tokens[at] not in node.following):
                continue  # as for most words that begin a phrase: a way out that only saves time
            found: list[tuple[int, str, int]] = []
            while True:
                for lane, group in node.ends:
                    found.append((lane, group, at))
                if at == count or (following := node.following.get(tokens[at])) is None:
                    break
                node = following
                at += 1
            for lane, group, end in reversed(found):  # the longest of a lane comes first, and keeps the others out
                if free[lane] <= start:
                    free[lane] = end
                    hits.append(Hit(group, start, end))
        return hits


def named(hits: Sequence[Hit], tokens: list[str], most: int = 3) -> str:
    """Return the phrases found, for a person to read.

    >>> named([Hit("x", 1, 3)], ["a", "b", "c"])
    'b c'
    """
    if not hits:
        return ""
    phrases = list(dict.fromkeys([" ".join(tokens[hit.start : hit.end]) for hit in hits]))
    return ", ".join(phrases[:most]) + (", ..." if len(phrases) > most else "")
