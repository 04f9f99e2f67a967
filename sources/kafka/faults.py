"""Tell Kafka's faults apart: what passes by itself, and what no waiting mends."""

from collections.abc import Callable
from time import monotonic

import structlog
from confluent_kafka import KafkaError
from prometheus_client import Counter

from schemas.errors import TerminalError

ERRORS = Counter("attune_kafka_errors", "Errors that Kafka clients reported while reading", ["code"])
LOG_EVERY_S = 10.0

_HINTS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant READ on the topic to this user",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "grant READ on the consumer group to this user",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "grant this user access to the cluster",
    KafkaError.SASL_AUTHENTICATION_FAILED: "check user, password and mechanism in the Kafka options",
    KafkaError._AUTHENTICATION: "check user, password and mechanism in the Kafka options",
    KafkaError.UNSUPPORTED_SASL_MECHANISM: "check sasl.mechanism in the Kafka options",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "the topic is gone: create it, or take it out of the configuration",
    KafkaError._UNKNOWN_TOPIC: "the topic is gone: create it, or take it out of the configuration",
    KafkaError._UNKNOWN_PARTITION: "the partition is gone: check the topic's number of partitions",
    # Going on would skip records in silence.
    KafkaError._BAD_MSG: "the log is damaged: restore it, or move the offset past it by hand",
    KafkaError.INVALID_MSG: "the log is damaged: restore it, or move the offset past it by hand",
    KafkaError._BAD_COMPRESSION: "the log is damaged: restore it, or move the offset past it by hand",
    KafkaError._NOT_IMPLEMENTED: "this librdkafka lacks a feature that the topic uses (a compression?)",
}


def is_terminal(error: KafkaError) -> bool:
    """Return whether waiting can't mend this error."""
    return bool(error.fatal()) or error.code() in _HINTS


def terminal(error: KafkaError, where: str) -> TerminalError:
    """Return the error that stops the flow."""
    hint = _HINTS.get(error.code(), "the client can't go on: restart the flow")
    return TerminalError(f"Kafka, {where}: {error.str()} ({error.name()}): {hint}")


class Faults:
    """Count the errors of one client, log each kind at most every ``LOG_EVERY_S`` seconds, raise the terminal ones."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._logged: dict[str, float] = {}
        self._log = structlog.get_logger(__name__)

    def take(self, error: KafkaError, where: str) -> None:
        """Take note of an error.

        Raises:
            TerminalError: no waiting mends it.
        """
        ERRORS.labels(error.name()).inc()
        if is_terminal(error):
            raise terminal(error, where)
        now = self._now()
        if now - self._logged.get(error.name(), float("-inf")) >= LOG_EVERY_S:
            self._logged[error.name()] = now
            self._log.warning("kafka_error_ridden_out", code=error.name(), error=error.str(), where=where)
