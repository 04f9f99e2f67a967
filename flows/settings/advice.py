"""What is not safe enough outside development, told loudly at the start and by ``attune config check``."""

from collections.abc import Iterator
from ipaddress import ip_address

from flows.settings.convert import emotion_rules
from flows.settings.model import Kafka, Settings
from operators.interventions.reading import FOLDER
from operators.interventions.rules import read_rules

_TRUE = ("true", "t", "1")
"""What librdkafka takes for a yes, in any case; "f" and "0" are a no as much as "false"."""


def insecurities(settings: Settings) -> list[str]:
    """Return what an attacker on the network could use; empty in development.

    >>> insecurities(Settings())
    []
    """
    if settings.environment == "development":
        return []
    return [*_kafka(settings.kafka), *_database(settings), *_listeners(settings)]


def unanswered(settings: Settings) -> list[str]:
    """Return what is found for nothing: emotions of the rules that no intervention answers to.

    >>> unanswered(Settings())
    []
    """
    rules = emotion_rules(settings)
    if rules is None:
        return []
    answered = read_rules(settings.interventions.rules or FOLDER).emotions
    return [
        f"emotions.toml: rules.{rule.name}: no intervention answers to {rule.emotion}; it is only recorded"
        for rule in rules.rules
        if rule.emotion not in answered
    ]


def unproven(settings: Settings) -> list[str]:
    """Return what clients can't prove to a gateway after its restart: no secret is there that outlasts it.

    >>> unproven(Settings())
    []
    """
    gateway = settings.gateway
    if not gateway.keys or gateway.receipt_secrets or any(key.algorithm == "HS256" for key in gateway.keys.values()):
        return []
    return [
        "gateway.receipt_secrets is empty, and no key is a secret: what pages acknowledge after a restart, or to"
        " another gateway, is refused"
    ]


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches the host.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.startswith("/")


def _kafka(kafka: Kafka) -> Iterator[str]:
    options = {key: str(value).lower() for key, value in kafka.options.items()}
    protocol = options.get("security.protocol", "plaintext")
    if not protocol.endswith("ssl"):
        yield f'kafka.options."security.protocol" is {protocol}: events and passwords cross the network in the clear'
    elif options.get("enable.ssl.certificate.verification", "true") not in _TRUE:
        yield 'kafka.options."enable.ssl.certificate.verification" is off: anybody may pose as the broker'
    elif options.get("ssl.endpoint.identification.algorithm") == "none":
        yield 'kafka.options."ssl.endpoint.identification.algorithm" is none: any certificate passes as the broker'
    certificate = {"ssl.certificate.location", "ssl.certificate.pem", "ssl.keystore.location"} & set(options)
    if not protocol.startswith("sasl") and not certificate:
        yield "kafka.options has neither SASL nor a client certificate: the broker cannot tell who reads and writes"
    if options.get("enable.sasl.oauthbearer.unsecure.jwt", "false") in _TRUE:
        yield 'kafka.options."enable.sasl.oauthbearer.unsecure.jwt" is on: anybody may say that he is this user'


def _database(settings: Settings) -> Iterator[str]:
    if settings.database.url is None:
        return
    # Costs a tenth of a second to import, and only who has a database pays it.
    from sinks.postgres.connection import parse

    parameters = parse(settings.database.url.get_secret_value())
    hosts = str(parameters.get("host") or "/").split(",")
    mode = str(parameters.get("sslmode", "prefer"))
    if not all(map(is_loopback, hosts)) and mode not in ("verify-full", "verify-ca"):
        yield f"database.url has sslmode={mode}: without verify-full anybody may pose as the database"


def _listeners(settings: Settings) -> Iterator[str]:
    if not is_loopback(settings.gateway.host) and not settings.gateway.behind_proxy:
        yield "gateway.host is open to the network without TLS: put a proxy in front and set gateway.behind_proxy"
    if not is_loopback(settings.metrics.host):
        yield "metrics.host is open to the network and has no password: keep it on a network of its own"
