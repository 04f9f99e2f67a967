"""What makes a test's broker a secured one: certificates, listeners, users and rights.

Two listeners speak TLS and ask for a password (SCRAM-SHA-512 or PLAIN): the certificate of ``SECURED`` comes from an
authority of the test's own and names 127.0.0.1 alone, the one of ``SELF_SIGNED`` vouches for itself. The users have the
rights that docs/operations.md asks for, or deliberately fewer.
"""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

LISTENERS = {"SECURED": "SASL_SSL", "SELF_SIGNED": "SASL_SSL"}
STORE_PASSWORD = "only-for-this-folder"

CONDUCTOR, KEEPER, GUEST = "conductor", "keeper", "guest"
OPEN, SEEN, HIDDEN, BOX = "open", "seen", "hidden", "box"
"""Topics, by what the guest may: read, describe, nothing, write."""
GROUP, SEEN_GROUP = "guest", "seen-by-guest"
"""Groups that the guest may read, and describe."""

_TOPIC, _GROUP = ResourceType.TOPIC, ResourceType.GROUP
_OP = AclOperation
RIGHTS = [
    (CONDUCTOR, _TOPIC, "platform.events.", (_OP.READ, _OP.DESCRIBE_CONFIGS)),
    (CONDUCTOR, _TOPIC, "attune.", (_OP.WRITE,)),
    (CONDUCTOR, _GROUP, "attune", (_OP.READ,)),
    (KEEPER, _TOPIC, "platform.events.", (_OP.CREATE, _OP.DESCRIBE, _OP.DESCRIBE_CONFIGS)),
    (KEEPER, _TOPIC, "attune.", (_OP.CREATE, _OP.DESCRIBE)),
    (GUEST, _TOPIC, OPEN, (_OP.READ, _OP.DESCRIBE_CONFIGS)),
    (GUEST, _TOPIC, SEEN, (_OP.DESCRIBE,)),
    (GUEST, _TOPIC, BOX, (_OP.WRITE,)),
    (GUEST, _GROUP, GROUP, (_OP.READ,)),
    (GUEST, _GROUP, SEEN_GROUP, (_OP.DESCRIBE,)),
]
"""Who may do what with topics and groups of this name or beginning."""


def password(user: str) -> str:
    """Return a user's password: with characters that a careless hand-over would trip over."""
    return f"{user}%2F$p=a;s,s #word"


@dataclass(frozen=True)
class Certificates:
    """Files: the authority that clients are to trust, the key stores of the listeners."""

    authority: Path
    secured: Path
    self_signed: Path


@dataclass(frozen=True)
class Secured:
    """A secured broker: ``open`` is the tests' own way in, without TLS or rights."""

    open: str
    secured: str
    self_signed: str
    authority: Path

    def options(self, user: str, **changes: str | None) -> dict[str, str]:
        """Return the librdkafka options of a user, dots as underscores in ``changes``; None takes one away."""
        options: dict[str, str | None] = {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.authority),
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": password(user),
        }
        options |= {name.replace("_", "."): value for name, value in changes.items()}
        return {name: value for name, value in options.items() if value is not None}


def make_certificates(folder: Path) -> Certificates:
    """Make an authority, a certificate signed by it, and one that vouches for itself."""
    made = Certificates(folder / "authority.pem", folder / "secured.p12", folder / "self-signed.p12")
    both = folder / "both.p12"
    address = ("-ext", "san=ip:127.0.0.1")
    _keytool(both, "-genkeypair", *_key("authority"), "-ext", "bc:c")
    _keytool(both, "-genkeypair", *_key("secured"), *address, "-signer", "authority")
    _keytool(both, "-exportcert", "-rfc", "-alias", "authority", "-file", str(made.authority))
    # A listener presents what its store holds, so that the authority's key must not lie beside its own.
    source = ("-srckeystore", str(both), "-srcstorepass", STORE_PASSWORD, "-srcalias", "secured")
    _keytool(made.secured, "-importkeystore", *source)
    _keytool(made.self_signed, "-genkeypair", *_key("self-signed"), *address)
    return made


def broker_settings(certificates: Certificates) -> dict[str, str]:
    """Return what a broker with `LISTENERS` needs beside them."""
    return {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # Whoever comes without TLS: the broker itself, and the tests through their own way in.
        "super.users": "User:ANONYMOUS",
        # The logs of the end-to-end tests are stamped an hour ahead.
        "log.message.timestamp.after.max.ms": str(24 * 3600 * 1000),
        **dict(_listener("secured", certificates.secured)),
        **dict(_listener("self_signed", certificates.self_signed)),
    }


def fill(address: str, addresses: Mapping[str, str], certificates: Certificates) -> Secured:
    """Make users, rights and topics."""
    admin = AdminClient({"bootstrap.servers": address})
    kind = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    users = sorted({user for user, *_ in RIGHTS})
    answers = [
        *admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(user, kind, password(user).encode()) for user in users]
        ).values(),
        *admin.create_acls(list(_bindings())).values(),
        *admin.create_topics([NewTopic(name, num_partitions=1) for name in (OPEN, SEEN, HIDDEN, BOX)]).values(),
    ]
    for answer in answers:
        answer.result(30)
    return Secured(address, addresses["SECURED"], addresses["SELF_SIGNED"], certificates.authority)


def _bindings() -> Iterator[AclBinding]:
    for user, kind, name, operations in RIGHTS:
        for operation in operations:
            yield AclBinding(
                kind, name, ResourcePatternType.PREFIXED, f"User:{user}", "*", operation, AclPermissionType.ALLOW
            )


def _listener(name: str, store: Path) -> Iterator[tuple[str, str]]:
    prefix = f"listener.name.{name}"
    modules = "org.apache.kafka.common.security"
    logins = " ".join(f'user_{user}="{password(user)}"' for user in (CONDUCTOR, KEEPER, GUEST))
    yield f"{prefix}.ssl.keystore.type", "PKCS12"
    yield f"{prefix}.ssl.keystore.location", str(store)
    yield f"{prefix}.ssl.keystore.password", STORE_PASSWORD
    yield f"{prefix}.sasl.enabled.mechanisms", "SCRAM-SHA-512,PLAIN"
    yield f"{prefix}.scram-sha-512.sasl.jaas.config", f"{modules}.scram.ScramLoginModule required;"
    yield f"{prefix}.plain.sasl.jaas.config", f"{modules}.plain.PlainLoginModule required {logins};"


def _key(alias: str) -> tuple[str, ...]:
    return ("-alias", alias, "-dname", f"CN={alias}", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "2")


def _keytool(store: Path, *arguments: str) -> None:
    command = ["keytool", *arguments, "-keystore", str(store), "-storepass", STORE_PASSWORD, "-storetype", "PKCS12"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
