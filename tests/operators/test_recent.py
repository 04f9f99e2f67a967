"""What came lately is a set of events, forgotten when none of their time is accepted any more."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from operators.config import PANE_MS, WindowConfig
from operators.emotions.recent import Recent

CONFIG = WindowConfig()
EVENT = st.tuples(st.integers(0, 2), st.integers(0, 60), st.sampled_from(["a", "b", "c"]))
"""Visitor, time (s), and id of an event."""
STEPS = st.one_of(
    st.tuples(st.just("add"), st.lists(EVENT, max_size=5)),
    st.tuples(st.just("drop"), st.integers(1, 15)),
    st.tuples(st.just("restore"), st.none()),
)


def add(recent: Recent, clock: int, found: list[tuple[int, int, str]], cut: int) -> None:
    """Add events of one batch in two chunks."""
    for part in (slice(0, cut), slice(cut, None)):
        keys = np.array([key for key, *_ in found[part]], np.uint64)
        ts = np.array([ts * 1_000 for _, ts, _ in found[part]], np.int64)
        recent.add(clock, keys, ts, [event_id for *_, event_id in found[part]])


@given(st.lists(STEPS, max_size=20), st.integers(0, 5))
def test_what_is_still_in_time_is_known_by_visitor_time_and_id(steps: list[tuple[str, object]], cut: int) -> None:
    recent, known, clock = Recent(), set[tuple[int, int, str]](), 0
    for what, given_ in steps:
        if isinstance(given_, list):
            add(recent, clock, given_, cut)
            known |= set(given_)
        elif isinstance(given_, int):
            clock += given_ * 1_000
            recent.drop(clock, CONFIG)
        else:
            assert what == "restore"
            recent = Recent.restored(recent.packed())
        oldest = clock - CONFIG.stream_delay_ms - PANE_MS
        for key in range(3):
            for ts in range(61):
                for event_id in "abc":
                    holds = recent.holds(key, ts * 1_000, event_id)
                    if ts * 1_000 >= oldest:
                        assert holds == ((key, ts, event_id) in known)
                    assert not holds or (key, ts, event_id) in known


def test_what_is_out_of_time_takes_no_room() -> None:
    recent = Recent()
    add(recent, 0, [(1, 0, "a"), (1, 4, "b")], 1)
    add(recent, 60_000, [(1, 59, "c")], 1)
    assert len(recent.packed()) == 2
    recent.drop(60_000, CONFIG)
    assert [ids.unpacked() for *_, ids in recent.packed()] == [["c"]]
    recent.drop(10**9, CONFIG)
    assert not recent.packed()


def test_a_snapshot_holds_no_ids_but_those_of_what_is_remembered() -> None:
    """The list of a whole batch is shared; most of its events are not watched."""
    recent = Recent()
    add(recent, 0, [(1, 0, "a"), (2, 0, "b")], 1)
    assert [ids.unpacked() for *_, ids in recent.packed()] == [["a", "b"]]
    assert Recent.restored(recent.packed()).packed() == recent.packed()
