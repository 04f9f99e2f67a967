"""Tell Kafka's faults apart: what passes by itself, and what no waiting mends."""

import re
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, TypeVar

import structlog
from confluent_kafka import KafkaError, KafkaException
from prometheus_client import Counter

from schemas.errors import ConfigError, TerminalError, TransientError
from sources.kafka.settings import Connection

ERRORS = Counter("attune_kafka_errors", "Errors that Kafka clients reported while reading", ["code"])
LOG_EVERY_S = 10.0

Client = TypeVar("Client")

_CREDENTIALS = "check sasl.mechanism, sasl.username and sasl.password in the Kafka options"
_CERTIFICATE = (
    "the certificate must be made out to the name or address that we connect to, and be signed by what ssl.ca.location "
    "in the Kafka options holds (without it: by an authority that this machine trusts)"
)
_HINTS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant READ on the topic to this user",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "grant READ on the consumer group to this user",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "grant this user access to the cluster",
    KafkaError.SASL_AUTHENTICATION_FAILED: _CREDENTIALS,
    KafkaError._AUTHENTICATION: _CREDENTIALS,
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


def opened(make: Callable[[dict[str, Any]], Client], conf: Mapping[str, Any]) -> Client:
    """Return the client that ``make`` makes of a configuration.

    Raises:
        ConfigError: an option is unknown, has no such value, or names a file that can't be used.
    """
    try:
        return make(dict(conf))
    except (KafkaException, TypeError, ValueError, AttributeError) as failure:
        said = failure.args[0].str() if isinstance(failure, KafkaException) else str(failure)
        raise ConfigError(f"Kafka options: {said}{_option_hint(said, conf)}") from failure


def _option_hint(said: str, conf: Mapping[str, Any]) -> str:
    """Say what librdkafka leaves out when it takes no option of a configuration.

    >>> _option_hint("ssl.ca.location failed: BIO lib", {"ssl.ca.location": "/etc/ca.pem", "ssl.key.location": "k"})
    ': ssl.ca.location is "/etc/ca.pem": is it there, may it be read, and is it what it should be?'
    """
    if "GSSAPI" in said:
        return ": set sasl.mechanism to PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"
    files = [f'{key} is "{conf[key]}"' for key in sorted(conf) if key.endswith(".location") and key in said]
    return f": {', '.join(files)}: is it there, may it be read, and is it what it should be?" if files else ""


_MOMENT = re.compile(r" \(after \d+ms in state \w+\).*$")
_THREAD = re.compile(r"^\[thrd:[^]]*\]: ")


class Heard:
    """What one client says beside its answers, so that "no answer" can be told with its cause.

    librdkafka reports a refused password or certificate as an error, but a broker that hangs up, which is all that one
    does that speaks another protocol, only in its log. Both come when the client is polled.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._errors: list[KafkaError] = []
        self._hung_up: list[str] = []

    def conf(self) -> dict[str, Any]:
        """Return the client's configuration, with ears."""
        conf = {**self._connection.client(), "error_cb": self._errors.append}
        if not {"debug", "log_level"} & set(self._connection.options):  # Who asks for the log wants to see it.
            conf |= {"log_level": 6, "logger": self}
        return conf

    def log(self, level: int, template: str, *parts: object) -> None:
        """Take a line of librdkafka's log; called by the client as by a `logging.Logger`: facility, name, message."""
        line = _THREAD.sub("", str(parts[-1])) if parts else template
        if "Disconnected" in line:
            self._hung_up.append(line)

    def refused(self) -> bool:
        """Return whether one side has refused the other: asking again is of no use."""
        return bool(self._refusals())

    def unanswered(self, error: KafkaError, timeout_s: float) -> TransientError | TerminalError:
        """Return why the brokers did not answer within ``timeout_s``, as far as the client has said."""
        at = f"Kafka at {self._connection.bootstrap_servers}"
        if refusals := self._refusals():
            said = _MOMENT.sub("", refusals[-1].str())
            if refusals[-1].code() == KafkaError._AUTHENTICATION:
                return TerminalError(f"{at} refused us: {said}: {_CREDENTIALS}")
            if "certificate verify failed" in said:
                return TerminalError(f"{at} is not trusted: {said}: {_CERTIFICATE}")
            return TerminalError(f"{at}: no TLS connection: {said}: check the ssl options among the Kafka options")
        told = [e.str() for e in self._errors if e.code() != KafkaError._ALL_BROKERS_DOWN] + self._hung_up
        causes = "; ".join(dict.fromkeys(_MOMENT.sub("", one) for one in told))
        hint = "check the address, its security settings, and that it runs"
        if "Disconnected" in causes:
            protocol = self._connection.options.get("security.protocol", "plaintext")
            hint = (
                f'a broker hangs up: is security.protocol = "{protocol}" (in the Kafka options) what it speaks at this '
                "address?"
            )
        return TransientError(f"{at} did not answer within {timeout_s:g} s ({causes or error.str()}): {hint}")

    def _refusals(self) -> list[KafkaError]:
        return [error for error in self._errors if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL)]
