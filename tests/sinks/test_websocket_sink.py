"""The engine's sink: what a flow writes reaches the clients, and an epoch waits for the hub."""

import threading
from datetime import timedelta

import pytest
from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource, cluster_main, run_main

from schemas.batches import Records
from schemas.errors import ConfigError, TransientError
from sinks.websocket.config import GatewayConfig
from sinks.websocket.gateway import SLICE, Gateway
from sinks.websocket.sink import WebsocketSink
from tests.fix_websocket import DEADLINE_S, Running, batch


def flow_of(items: list[tuple[str, Records]], sink: WebsocketSink) -> Dataflow:
    flow = Dataflow("live")
    stream = op.input("in", flow, TestingSource(items, batch_size=7))
    op.output("out", stream, sink)
    return flow


def items(count: int) -> list[tuple[str, Records]]:
    return [(str(n % 5), batch("anomaly", ("t", f"s{n % 5}"), first=n)) for n in range(1, count + 1)]


def test_what_a_flow_writes_reaches_the_clients(running: Running) -> None:
    browser = running.browser()
    browser.subscribe("anomalies")
    run_main(flow_of(items(100), WebsocketSink(running.gateway)), epoch_interval=timedelta(0))
    assert browser.numbers(100) == list(range(1, 101))


def test_all_workers_write_to_the_one_gateway(running: Running) -> None:
    browser = running.browser()
    browser.subscribe("anomalies")
    flow = flow_of(items(100), WebsocketSink(running.gateway))
    cluster_main(flow, [], 0, worker_count_per_proc=2)
    assert sorted(browser.numbers(100)) == list(range(1, 101))
    assert browser.ask(op="ping") == {"op": "pong"}


def test_a_snapshot_waits_for_the_hub_and_close_leaves_the_gateway_alone(running: Running) -> None:
    part = WebsocketSink(running.gateway).build_part("live.out", "gateway", None)
    part.write_batch([batch("anomaly", *[("t", "s")] * 5_000)])
    part.snapshot()
    assert running.gateway._handover.waiting == 0
    part.close()
    assert running.http("/health/live")[0].status == 200


def test_an_epoch_does_not_end_over_a_gateway_that_is_gone() -> None:
    gateway = Gateway(GatewayConfig(handover_timeout_s=0.1))
    part = WebsocketSink(gateway).build_part("live.out", "gateway", None)
    part.write_batch([batch("anomaly", ("t", "s"))])
    with pytest.raises(TransientError, match=r"took nothing for 0\.1 s and 1 records wait"):
        part.snapshot()


def test_another_process_has_the_part() -> None:
    sink = WebsocketSink(None, local=False)
    assert sink.list_parts() == []
    with pytest.raises(ConfigError, match="without a gateway"):
        sink.build_part("live.out", "gateway", None)
    with pytest.raises(ConfigError, match="expected a gateway"):
        WebsocketSink(None)


@pytest.mark.parametrize("size", [1, 49, 50, 51])
def test_others_have_their_turn_while_many_batches_of_any_size_wait(
    running: Running, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread is held up until all batches wait, so that they are routed in one go."""
    gateway, turns, go_on = running.gateway, 0, threading.Event()
    write_out = gateway._server.write_out

    async def counted() -> None:
        nonlocal turns
        turns += 1
        await write_out()

    monkeypatch.setattr(gateway._server, "write_out", counted)
    gateway._call(lambda: go_on.wait(DEADLINE_S))
    for _ in range(2_000 // size):
        gateway.publish(batch("anomaly", *[("t", "s")] * size))
    go_on.set()
    gateway.drain()
    assert turns >= 2_000 // (2 * SLICE)
