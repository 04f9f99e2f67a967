"""``attune token``: a token for the gateway, made with a key from the settings."""

import time
from enum import StrEnum
from typing import Annotated

import typer

from flows.commands.common import ConfigOption


class RoleName(StrEnum):
    """The roles that a token can have."""

    DASHBOARD = "dashboard"
    CLIENT = "client"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(token)


def token(
    tenant: Annotated[str, typer.Option(help="Whose records it opens.")],
    role: Annotated[RoleName, typer.Option(help="What it opens.", show_choices=True)] = RoleName.DASHBOARD,
    session: Annotated[str | None, typer.Option(help="A client's session.")] = None,
    user: Annotated[str, typer.Option(help="Whom it is for.")] = "developer",
    channel: Annotated[list[str] | None, typer.Option(help="A dashboard's channel; may be given again.")] = None,
    ttl: Annotated[int, typer.Option(min=1, max=366 * 86_400, help="Seconds until it expires.")] = 3_600,
    key: Annotated[str | None, typer.Option(help="Which of gateway.keys signs it. (default: the first)")] = None,
    config: ConfigOption = None,
) -> None:
    """Print a token for the websocket gateway, for development and tests.

    Example: attune token --role dashboard --tenant acme
    """
    from flows.settings import load, servers
    from schemas.errors import ConfigError
    from sinks.websocket.tokens import TokenError, Tokens, sign

    gateway = load(config).gateway
    name = key or next(iter(gateway.keys), None)
    if name not in gateway.keys:
        raise ConfigError(
            f"gateway.keys: expected {'the key ' + name if name else 'a key'}, got "
            f"{', '.join(gateway.keys) or 'none'}: give one as [gateway.keys.NAME], with a secret (or"
            " ATTUNE_GATEWAY__KEYS__NAME__SECRET) or a file"
        )
    signing = servers.token_key(name, gateway.keys[name])
    now = int(time.time())
    claims: dict[str, object] = {
        "iss": gateway.issuer,
        "aud": gateway.audience,
        "nbf": now,
        "exp": now + ttl,
        "sub": user,
        "tenant": tenant,
        "role": role.value,
    }
    claims |= {"session": session} if session is not None else {}
    claims |= {"channels": channel} if channel else {}
    signed = sign(signing, claims)
    try:
        Tokens([signing], gateway.issuer, gateway.audience).verify(signed)
    except TokenError as error:
        raise ConfigError(f"the gateway would not take it: {error}{_advice(role, session, channel)}") from None
    typer.echo(signed)


def _advice(role: RoleName, session: str | None, channel: list[str] | None) -> str:
    """Return what to give instead, where one option alone is at fault."""
    from schemas.registry import CHANNELS

    if role is RoleName.CLIENT and session is None:
        return ": give --session"
    return f": {', '.join(CHANNELS)}" if set(channel or ()) - set(CHANNELS) else ""
