"""Everything on this machine: broker, database, traffic, conductor, gateway with its dashboard, collector."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import SecretStr

from flows import engine
from flows.collect import collecting, wait
from flows.compose import compose
from flows.engine import Placement
from flows.generate import SCENARIOS, Plan
from flows.generate.demo import SHOP
from flows.generate.write import BATCH, Topics, paced
from flows.local.browsers import Browsers
from flows.local.kafka import mock_kafka
from flows.local.postgres import local_postgres
from flows.settings import Settings, servers
from flows.settings.collector import CollectorKey
from flows.settings.gateway import TokenKey
from flows.watch import Watch
from schemas.errors import TransientError
from schemas.registry import INBOUND_TOPICS, OUTBOUND_TOPICS
from sinks.kafka import Delivery
from sinks.postgres import migrate

PARTITIONS: Final = 2
EPOCH_S: Final = 2.0
JOIN_S: Final = 60.0
TENANTS: Final = ("tenant-1", "tenant-2")
"""Who is there. The first has the collector's key, and the dashboard's token unless that is asked for another."""
TENANT: Final = TENANTS[0]
MIX: Final = Plan(sessions=7, people=40, minutes=6, rate=3.0, tenants=len(TENANTS), repeat=True, truth=False)
"""What is going on in the demo."""
HEAD_START_S: Final = 60
"""How long it has been going on when the flow begins, so that there is something to see."""


@dataclass
class Demo:
    """A running demo; ``told`` are its addresses, the dashboard's first.

    ``stop`` ends it; ``check`` raises what has failed by itself.
    """

    told: tuple[str, ...]
    watch: Watch
    stop: threading.Event
    sent: int = 0
    _failed: list[BaseException] = field(default_factory=list)

    def check(self) -> None:
        """Raise what has ended the flow or the traffic, if anything has."""
        if self._failed:
            raise self._failed[0]

    def guard(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return ``work`` for a thread of its own, whose failure ends the demo and is kept for ``check``."""

        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - belongs to the main thread, whatever it is
                self._failed.append(error)
            finally:
                self.stop.set()

        return guarded


@contextmanager
def demo(settings: Settings, stop: threading.Event, tell: Callable[[str], None], seed: int = 1) -> Iterator[Demo]:
    """Run everything until the context ends. ``settings`` gives the ports and the numbers; servers are its own.

    Raises:
        AttuneError: a port is taken, or a server does not start.
    """
    with ExitStack() as stack:
        tell("starting the broker")
        broker = stack.enter_context(mock_kafka([*INBOUND_TOPICS, *OUTBOUND_TOPICS], PARTITIONS))
        tell("starting the database")
        conninfo = stack.enter_context(local_postgres())
        migrate(conninfo)
        ours = _with_servers(settings, broker, conninfo)
        watch = Watch()
        composed = stack.enter_context(
            compose(
                *("conductor", ours, Placement(), stop),
                sinks=frozenset(("kafka", "database", "gateway")),
                extra={"watch": watch},
                hand_out=TENANTS,
            )
        )
        ours, key = _with_key(ours, composed.origins + tuple(ours.gateway.origins))
        collector = stack.enter_context(collecting(ours))
        told = f"collector  {collector.url}  (key {key}, tenant {TENANT})"
        running = Demo((*composed.told, told, f"broker     {broker}"), watch, stop)
        flow = threading.Thread(
            target=running.guard(lambda: engine.run(composed.flow, Placement(), EPOCH_S)), name="flow", daemon=True
        )
        begun = threading.Event()
        browsers = stack.enter_context(Browsers(composed.told[0].split()[-1], SHOP, seed).running())
        send = running.guard(lambda: _send_traffic(running, ours, seed, begun, browsers))
        traffic = threading.Thread(target=send, name="traffic", daemon=True)
        watcher = threading.Thread(
            target=running.guard(lambda: wait(collector, stop)), name="collector's watch", daemon=True
        )
        traffic.start()
        while not begun.wait(0.1) and not stop.is_set():
            pass
        for thread in (flow, watcher):
            thread.start()
        try:
            yield running
        finally:
            stop.set()
            for thread in (traffic, flow, watcher):
                thread.join(JOIN_S)
                if thread.is_alive():
                    raise TransientError(f"demo: the {thread.name} did not end within {JOIN_S:g} s")
        running.check()


def _with_servers(settings: Settings, broker: str, conninfo: str) -> Settings:
    kafka = settings.kafka.model_copy(
        update={"bootstrap_servers": broker, "options": {}, "topics": {}, "start": "earliest", "start_timestamp": None}
    )
    database = settings.database.model_copy(update={"url": SecretStr(conninfo)})
    # A key that nobody else has, on an address that nobody else reaches: its tokens are for whoever sits here.
    here = {
        "host": "127.0.0.1",
        "behind_proxy": False,
        "keys": {"demo": TokenKey(secret=SecretStr(secrets.token_hex(32)))},
        "revoked": None,
    }
    gateway = settings.gateway.model_copy(update=here)
    update = {"kafka": kafka, "database": database, "gateway": gateway, "environment": "development"}
    return settings.model_copy(update=update)


def _with_key(settings: Settings, origins: tuple[str, ...]) -> tuple[Settings, str]:
    """Return the settings with one key, made for this run and for these pages, and the key."""
    key = f"pk-{secrets.token_hex(8)}"
    keys = {key: CollectorKey(tenant=TENANT, origins=origins)}
    collector = settings.collector.model_copy(update={"keys": keys})
    return settings.model_copy(update={"collector": collector}), key


def _send_traffic(running: Demo, settings: Settings, seed: int, begun: threading.Event, browsers: Browsers) -> None:
    """Send what happens as it happens; ``begun`` is set once what has happened before is there."""
    plan = replace(MIX, seed=seed, start_ts=int((time.time() - HEAD_START_S) * 1000))
    to = Topics(Delivery(servers.sink_config(settings.kafka, JOIN_S / 2)), {})
    for batch in paced(SCENARIOS["demo"].make(plan).events(), running.stop):
        to.send(batch)
        running.sent += len(batch)
        for event in batch:
            browsers.saw(event)
        if len(batch) < BATCH and not begun.is_set():
            to.finish()  # whole, before the flow reads on: what came out of order would be late
            begun.set()
    to.finish()
