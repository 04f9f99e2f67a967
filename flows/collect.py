"""Runs the collector: HTTP to the inbound topics, beside no dataflow. What it takes, a conductor reads from Kafka."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import structlog

from flows import metrics
from flows.settings import Settings, servers
from sources.collector import Collector
from sources.kafka import check_writable

CHECK_S = 0.5

_log = structlog.get_logger(__name__)


@contextmanager
def collecting(settings: Settings) -> Iterator[Collector]:
    """Run the collector until the context ends; what is under way is answered.

    Raises:
        AttuneError: there is no key, the address is taken, the brokers are away, a topic is missing or closed to us.
    """
    config = servers.collector_config(settings)
    kafka = settings.kafka
    topics = tuple(sorted(set(config.topics.values())))
    check_writable(servers.connection(kafka), kafka.group_id, topics, kafka.preflight_timeout_s)
    collector = Collector(config, servers.sink_config(kafka).producer())
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()


@contextmanager
def collect(settings: Settings) -> Iterator[tuple[Collector, tuple[str, ...]]]:
    """Run the collector with its metrics; give it and what to tell whoever started it."""
    with ExitStack() as stack:
        collector = stack.enter_context(collecting(settings))
        told = [f"collector  {collector.url}"]
        section = settings.metrics
        if section.enabled:
            server = metrics.serve(section.host, section.port)
            stack.callback(server.close)
            told.append(f"metrics    {server.url}")
        yield collector, tuple(told)


def wait(collector: Collector, stop: threading.Event) -> None:
    """Return when ``stop`` is set.

    Raises:
        AttuneError: the collector has ended by itself.
    """
    while not stop.wait(CHECK_S):
        collector.check()
    _log.info("flow ended", flow="collector")
