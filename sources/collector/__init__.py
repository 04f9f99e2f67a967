"""The collector: takes telemetry from browsers over HTTP, stamps it, and writes it to the inbound topics."""

from sources.collector.config import CollectorConfig, Key
from sources.collector.server import Collector

__all__ = ["Collector", "CollectorConfig", "Key"]
