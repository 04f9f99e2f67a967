"""Outcomes on their way to be written down: what fails on the way, and what waits meanwhile."""

import json
import time
from collections.abc import Sequence

import pytest

from schemas.errors import TransientError
from schemas.inbound import InterventionOutcome
from sinks.websocket import recorder as recorder_module
from sinks.websocket.client import Client
from sinks.websocket.hub import Hub, Report
from sinks.websocket.limits import Limits
from sinks.websocket.principal import Principal
from sinks.websocket.recorder import FAULTS, OUTCOMES, Recorder
from tests.fix_websocket import Written, eventually, said
from tests.sinks.test_websocket_offers import fired

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
    eventually(lambda: FAULTS.labels("unexpected")._value.get() > faults + 5, "the one that is left is tried again")
    assert not recorder.fault, "it is at fault, and nothing else"
    odd.at = ""
    eventually(lambda: len(odd.written) == 9 and not recorder.fault, "it was kept")
    assert sorted(odd.written) == [ident(str(n)) for n in range(9)]
    recorder.stop(5.0)
    assert done == [True] * 9
    assert "".join(capfd.readouterr()).count("outcomes of interventions: unexpected failure") == 1


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


def told_by(hub: Hub, user: str, end: str, clients: dict[str, Client]) -> None:
    """Have a user's page acknowledge an intervention."""
    if user not in clients:
        clients[user] = hub.connect(Principal("t", "client", user, "s", ("interventions",)), NOW)
    message = {"op": "acknowledge", "intervention_id": ident(end), "outcome": "shown"}
    hub.receive(clients[user], json.dumps(message), NOW)


def answers(hub: Hub, client: Client) -> list[str]:
    return [str(reply.get("code", reply["op"])) for reply in map(said, hub.take(client, 1 << 20).frames)]


def test_who_shares_a_batch_with_one_at_fault_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "RETRY_S", 0.01)
    hub, odd, clients = Hub(), Odd(ident("b")), dict[str, Client]()
    done = list[tuple[str, bool]]()
    recorder = Recorder(odd, lambda reports, well: done.extend((one.event.intervention_id, well) for one in reports))
    for end in "abc":
        hub.publish(fired(end), NOW)
        told_by(hub, "ann", end, clients)
    recorder.put(hub.outcomes())
    recorder.start()
    eventually(lambda: len(done) == 3, "all are told")
    recorder.stop(5.0)
    assert sorted(done) == [(ident("a"), True), (ident("b"), False), (ident("c"), True)]


def test_one_at_fault_is_given_up_once_others_are_written(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recorder_module, "RETRY_S", 0.01)
    hub, odd, done = Hub(), Odd(ident("bad")), list[tuple[str, bool]]()
    recorder = Recorder(odd, lambda reports, well: done.extend((one.event.intervention_id, well) for one in reports))
    client = hub.connect(ANN, NOW)
    given_up = OUTCOMES.labels("given_up")._value.get()
    hub.delivered(client, [ident("bad")], NOW)
    recorder.put(hub.outcomes())
    recorder.start()
    faults = FAULTS.labels("unexpected")
    first = faults._value.get()
    eventually(lambda: faults._value.get() > first + 10, "alone it is tried on and on: who knows")

    def another(end: str) -> None:
        hub.delivered(client, [ident(end)], NOW)
        recorder.put(hub.outcomes())
        eventually(lambda: (ident(end), True) in done, "another is written")
        before = faults._value.get()
        eventually(lambda: faults._value.get() > before or (ident("bad"), False) in done, "it has its turn")

    for number in range(5):
        another(str(number))
        assert not recorder.fault
    eventually(lambda: (ident("bad"), False) in done, "it is given up")
    assert OUTCOMES.labels("given_up")._value.get() == given_up + 1
    recorder.stop(5.0)
    printed = "".join(capfd.readouterr())
    assert (printed.count("unexpected failure"), printed.count("was given up")) == (1, 1)


def test_while_nothing_can_be_written_nobody_waits_for_long_and_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder_module, "RETRY_S", 0.05)
    monkeypatch.setattr(recorder_module, "ANSWER_S", 0.3)
    hub, clients, broken = Hub(), dict[str, Client](), True
    written = list[str]()

    def write(events: Sequence[InterventionOutcome]) -> None:
        if broken:
            raise KeyError("always")
        written.extend(event.outcome for event in events)

    def tell(reports: Sequence[Report], well: bool) -> None:
        for one in reports:
            hub.written(one, well=well)

    recorder = Recorder(write, tell)
    for number in range(40):
        hub.publish(fired(str(number)), NOW)
        told_by(hub, f"u{number}", str(number), clients)
    hub.delivered(clients["u0"], [ident(str(number)) for number in range(40)], NOW)
    for client in clients.values():
        hub.take(client, 1 << 20)
    recorder.put(hub.outcomes())
    started = time.monotonic()
    recorder.start()
    eventually(lambda: all(client.outbox for client in clients.values()), "all have an answer")
    assert time.monotonic() - started < 1.5, "not 40 times 0.05 s and more"
    assert {tuple(answers(hub, client)) for client in clients.values()} == {("unavailable",)}
    eventually(lambda: recorder.fault == "unexpected KeyError", "it is not one of them that is at fault")
    broken = False
    eventually(lambda: written == ["delivered"] * 40 and not recorder.fault, "all that nobody waits for")
    recorder.stop(5.0)


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
