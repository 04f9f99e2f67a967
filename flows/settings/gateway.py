"""The settings of the websocket gateway."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from flows.settings.fields import Host, Number, Origins, Port, Seconds, Section, Strings, expected, split


def _long(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < 32:
        raise expected("secrets of at least 32 characters each")
    return secret


ReceiptSecret = Annotated[SecretStr, AfterValidator(_long)]


class TokenKey(Section):
    """A key that tokens are signed with: a secret, here or in a file, or a file with a public or private key (PEM)."""

    algorithm: Literal["HS256", "ES256", "RS256", "EdDSA"] = "HS256"
    secret: SecretStr | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.secret is None) == (self.file is None):
            raise expected("either a secret or a file")
        if self.secret is not None and self.algorithm != "HS256":
            raise expected(f"a file with the key for {self.algorithm}, not a secret")
        return self


class Gateway(Section):
    """The websocket gateway, its tokens and limits, the dashboard's page and the health checks.

    ``keys`` by their ``kid``; without one nobody is authenticated. ``receipt_secrets``: by these a gateway knows what
    was offered to a client before a restart, or by another gateway: it writes with the first and accepts all. Without
    one the secrets among ``keys`` do.
    ``lookback_s``: how far back `attune run gateway` begins to read, so that its first subscribers find something.
    """

    host: Host = "127.0.0.1"
    port: Port = 8003
    origins: Origins = ()
    behind_proxy: bool = False
    proxies: Strings = ("127.0.0.0/8", "::1/128")
    max_clients: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    max_clients_per_user: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    max_clients_per_address: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    issuer: Annotated[str, Field(min_length=1, max_length=255)] = "attune"
    audience: Annotated[str, Field(min_length=1, max_length=255)] = "attune-gateway"
    keys: dict[str, TokenKey] = Field(default_factory=dict)
    receipt_secrets: Annotated[tuple[ReceiptSecret, ...], BeforeValidator(split)] = ()
    revoked: Path | None = None
    lookback_s: Annotated[Number, Field(ge=0, le=86_400)] = 600.0
    idle_after_s: Seconds = 60.0
