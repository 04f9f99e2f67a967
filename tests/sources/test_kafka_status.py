"""What the health check hears of the parts: who is silent, and where nothing moves."""

from sources.kafka import Status


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_nothing_moves_though_something_waits() -> None:
    clock = Clock()
    status = Status(clock)
    for second in range(100):
        clock.now = float(second)
        status.report("busy", frozenset(), lag=5, position=second)
        status.report("done", frozenset(), lag=0, position=7)
        status.report("stuck", frozenset(), lag=5, position=min(second, 10))
        assert status.stuck(30.0) == (["stuck"] if second >= 40 else [])
    status.report("stuck", frozenset(), lag=4, position=11)
    assert status.stuck(30.0) == []


def test_a_part_that_nobody_asks_is_stuck() -> None:
    clock = Clock()
    status = Status(clock)
    status.report("0", frozenset(("a[0]",)))
    clock.now = 29.0
    assert (status.stuck(30.0), status.stalled()) == ([], ["a[0]"])
    clock.now = 30.0
    assert status.stuck(30.0) == ["0"]
    status.forget("0")
    assert (status.stuck(30.0), status.stalled()) == ([], [])
