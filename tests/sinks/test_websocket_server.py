"""The gateway over real sockets: what arrives, in which order, and how it starts and ends."""

import threading

import pytest

from schemas.batches import Records
from schemas.errors import AttuneError, ConfigError, TransientError
from sinks.websocket.config import GatewayConfig
from sinks.websocket.gateway import Gateway, cut
from tests.fix_websocket import TOKENS, Running, StartGateway, batch


def test_records_arrive_in_order(running: Running) -> None:
    browser = running.browser()
    assert (browser.hello["tenant"], browser.hello["role"]) == (None, "developer")
    assert browser.subscribe("anomalies") == []
    running.gateway.publish(batch("anomaly", *[("t", "s")] * 500))
    assert browser.numbers(500) == list(range(1, 501))
    assert browser.ask(op="ping") == {"op": "pong"}


def test_the_snapshot_comes_first_and_then_the_changes(running: Running) -> None:
    running.gateway.publish(batch("engagement", ("t", "a"), ("t", "b"), ("t", "a")))
    running.gateway.drain()
    browser = running.browser()
    assert [message["record"]["n"] for message in browser.subscribe("engagement")] == [2, 3]
    running.gateway.publish(batch("engagement", ("t", "b"), first=4))
    assert browser.numbers(1) == [4]


def test_channels_are_never_mixed(running: Running) -> None:
    one, other = running.browser(), running.browser()
    one.subscribe("anomalies")
    other.subscribe("interventions")
    for n in range(1, 40, 4):
        running.gateway.publish(batch("anomaly", ("t", "s"), first=n))
        running.gateway.publish(batch("intervention", ("t", "s"), first=n + 1))
        running.gateway.publish(batch("outcome", ("t", "s"), first=n + 2))
        running.gateway.publish(batch("dead_letter", ("t", "s"), first=n + 3))
        running.gateway.publish(batch("calibration", ("t", ""), first=n + 3))
        running.gateway.publish(batch("telemetry.click", ("t", "s"), first=n + 3))
    got = [one.read() for _ in range(10)]
    assert {(m["channel"], m["record"]["type"]) for m in got} == {("anomalies", "anomaly")}
    got = [other.read() for _ in range(20)]
    assert [m["record"]["type"] for m in got] == ["intervention", "outcome"] * 10
    assert one.ask(op="ping") == other.ask(op="ping") == {"op": "pong"}, "nothing else was sent"


def test_stopping_tells_the_clients(running: Running) -> None:
    browser = running.browser()
    running.gateway.stop()
    assert browser.closed() == (1001, "the gateway is stopping")
    with pytest.raises(TransientError, match="it was stopped"):
        running.gateway.publish(batch("anomaly", ("t", "s")))
    running.gateway.stop()
    with pytest.raises(AttuneError, match="started before"):
        running.gateway.start()


def test_a_port_in_use_is_named(running: Running) -> None:
    other = Gateway(GatewayConfig(port=running.gateway.port))
    with pytest.raises(ConfigError, match=f"gateway.port: 127.0.0.1:{running.gateway.port} is in use") as caught:
        other.start()
    assert "ATTUNE_GATEWAY__PORT" in str(caught.value)
    other.stop()


def test_an_address_of_another_machine_is_named(start_gateway: StartGateway) -> None:
    with pytest.raises(ConfigError, match=r"gateway.host: can't listen on 192.0.2.1:0"):
        start_gateway(host="192.0.2.1", behind_proxy=True, origins=("https://a.example",), verify=TOKENS.verify)


def test_many_threads_may_publish(running: Running) -> None:
    browser = running.browser()
    browser.subscribe("anomalies")

    def publish(tenant: str) -> None:
        for n in range(1, 101):
            running.gateway.publish(batch("anomaly", (tenant, "s"), first=n))

    threads = [threading.Thread(target=publish, args=(f"t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got: dict[str, list[int]] = {}
    for _ in range(400):
        record = browser.read()["record"]
        got.setdefault(record["tenant_id"], []).append(record["n"])
    assert got == {f"t{i}": list(range(1, 101)) for i in range(4)}


def test_large_batches_are_cut() -> None:
    records = batch("anomaly", *[("t", "s")] * 7)
    parts = [cut(records, begin, begin + 3) for begin in (0, 3, 6)]
    assert [len(part) for part in parts] == [3, 3, 1]
    assert [i for part in parts for i in part.ids] == records.ids
    assert cut(records, 0, 7) is records


def test_a_failing_gateway_fails_its_publishers(running: Running) -> None:
    broken = Records("anomaly", ["1"], ["t"], ["s"], [1], [None])  # type: ignore[list-item]  # what fails
    running.gateway.publish(broken)
    with pytest.raises(TransientError, match="it failed"):
        running.gateway.drain()
    with pytest.raises(TransientError, match="it failed"):
        running.gateway.publish(batch("anomaly", ("t", "s")))
