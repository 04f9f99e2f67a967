"""Outcomes on their way to be written down: what fails on the way, and what waits meanwhile."""

from collections.abc import Sequence

import pytest

from schemas.errors import TransientError
from schemas.inbound import InterventionOutcome
from sinks.websocket import recorder as recorder_module
from sinks.websocket.hub import Hub, Report
from sinks.websocket.limits import Limits
from sinks.websocket.principal import Principal
from sinks.websocket.recorder import FAULTS, Recorder
from tests.fix_websocket import Written, eventually

NOW = 1_000.0
ANN = Principal("t", "client", "ann", "s", ("interventions",))


def ident(end: str) -> str:
    return f"t/s/1/intervention/{end}"


class Odd:
    """Writes outcomes down, but for those of one intervention, at which it fails as nobody expected."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.written: list[str] = []

    def __call__(self, events: Sequence[InterventionOutcome]) -> None:
        """Write them down."""
        if any(event.intervention_id == self.at for event in events):
            raise KeyError(self.at)
        self.written += [event.intervention_id for event in events]


def test_a_failure_that_nobody_expected_ends_nothing_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recorder_module, "RETRY_S", 0.01)
    hub, odd, done = Hub(), Odd(ident("3")), list[bool]()

    def hear(reports: Sequence[Report], well: bool) -> None:
        done.extend([well] * len(reports))
        raise RuntimeError("so does who hears of it")

    recorder = Recorder(odd, hear)
    client = hub.connect(ANN, NOW)
    hub.delivered(client, [ident(str(n)) for n in range(9)], NOW)
    assert recorder.put(hub.outcomes()) == []
    faults = FAULTS.labels("unexpected")._value.get()
    recorder.start()
    eventually(lambda: len(odd.written) == 8, "all but one are written")
    eventually(lambda: recorder.fault == "unexpected KeyError", "the one that is left is missed")
    assert FAULTS.labels("unexpected")._value.get() > faults
    odd.at = ""
    eventually(lambda: len(odd.written) == 9 and not recorder.fault, "it was kept")
    assert sorted(odd.written) == [ident(str(n)) for n in range(9)]
    recorder.stop(5.0)
    assert done == [True] * 9
    said = capfd.readouterr()
    assert "outcomes of interventions can't be written" in said.out + said.err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_recorder_without_its_thread_is_at_fault() -> None:
    def write(_: Sequence[InterventionOutcome]) -> None:
        raise SystemExit

    hub = Hub()
    recorder = Recorder(write, lambda _reports, _well: None)
    hub.delivered(hub.connect(ANN, NOW), [ident("a")], NOW)
    recorder.put(hub.outcomes())
    recorder.start()
    eventually(lambda: recorder.fault == "the thread that writes them has ended", "it is missed")


def test_what_waits_to_be_written_is_bounded() -> None:
    hub, done = Hub(Limits(offers=10_000)), list[tuple[int, bool]]()
    written = Written()
    written.fault = TransientError("away")
    recorder = Recorder(written, lambda reports, well: done.append((len(reports), well)), at_most=50)
    client = hub.connect(ANN, NOW)
    hub.delivered(client, [f"t/s/{n}" for n in range(80)], NOW)
    reports = hub.outcomes()
    assert len(recorder.put(reports)) == 30
    recorder.start()
    eventually(lambda: recorder.fault == "away", "it was tried")
    written.fault = None
    eventually(lambda: sum(count for count, well in done if well) == 50, "all are written in the end")
    recorder.stop(5.0)
