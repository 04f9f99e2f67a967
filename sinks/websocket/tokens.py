"""Tokens (JWT) say who a connection is. PyJWT checks them; the key alone decides on the algorithm."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from schemas.errors import ConfigError
from schemas.inbound import MAX_TS, CleanId
from schemas.registry import CHANNELS
from sinks.websocket.principal import CLIENT_CHANNEL, Principal

Algorithm = Literal["HS256", "ES256", "RS256", "EdDSA"]

SECRET_BYTES: Final = 32
RSA_BITS: Final = 2048
TOKEN_CHARACTERS: Final = 8_192
LEEWAY_S: Final = 5.0
"""How far the clocks of who makes tokens and of this machine may be apart."""


class TokenError(Exception):
    """A token is not taken. The text may go to whoever showed it: it never repeats it and holds no internals."""


class Claims(msgspec.Struct, frozen=True):
    """What a token must say besides what PyJWT checks."""

    sub: CleanId
    tenant: CleanId
    role: Literal["dashboard", "client"]
    exp: float
    session: CleanId | None = None
    channels: list[str] | None = None
    jti: str | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key: ``verifying`` is a secret or a public key, ``signing`` a secret, a private key or None."""

    name: str
    algorithm: Algorithm
    verifying: Any = field(repr=False)
    signing: Any = field(repr=False)


def read_key(name: str, algorithm: Algorithm, material: bytes) -> Key:
    """Return the key that a secret (HS256) or a PEM file holds. Of a private key both halves.

    Raises:
        ConfigError: it is too short, or not of this kind.
    """
    where = f"gateway.keys.{name}"
    if algorithm == "HS256":
        if len(material) < SECRET_BYTES:
            raise ConfigError(f"{where}: expected a secret of at least {SECRET_BYTES} bytes, got {len(material)}")
        return Key(name, algorithm, material, material)
    try:
        private = load_pem_private_key(material, None) if b"PRIVATE KEY" in material else None
        public = private.public_key() if private else load_pem_public_key(material)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # What the library says of it may hold parts of the key.
        raise ConfigError(f"{where}: expected a public or private key as PEM, without a password") from None
    match algorithm, public:
        case "ES256", ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            pass
        case "RS256", rsa.RSAPublicKey(key_size=size) if size >= RSA_BITS:
            pass
        case "EdDSA", ed25519.Ed25519PublicKey():
            pass
        case _:
            kinds = {"ES256": "a key on the curve P-256", "RS256": f"an RSA key of {RSA_BITS} bits and more"}
            raise ConfigError(f"{where}: {algorithm} needs {kinds.get(algorithm, 'an Ed25519 key')}")
    return Key(name, algorithm, public, private)


class Tokens:
    """Checks tokens against several keys, by their ``kid``; ``now`` is in seconds since 1970 UTC."""

    def __init__(self, keys: Iterable[Key], issuer: str, audience: str) -> None:
        self._keys = {key.name: key for key in keys}
        self._issuer = issuer
        self._audience = audience

    def verify(self, token: str) -> Principal:
        """Return who shows this token.

        Raises:
            TokenError: it is none of ours, or it does not hold now.
        """
        if len(token) > TOKEN_CHARACTERS:
            raise TokenError("the token is too long")
        try:
            key = self._key(jwt.get_unverified_header(token))
            payload = jwt.decode(
                token,
                key.verifying,
                algorithms=[key.algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "nbf", "aud", "iss", "sub"]},
            )
            return _principal(msgspec.convert(payload, Claims))
        except jwt.ExpiredSignatureError:
            raise TokenError("the token has expired") from None
        except jwt.ImmatureSignatureError:
            raise TokenError("the token is not valid yet") from None
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError, TypeError, OverflowError, RecursionError):
            raise TokenError("the token is not valid") from None

    def _key(self, header: Mapping[str, Any]) -> Key:
        """Return the key that a header names. Whatever else it offers (jku, jwk, x5u) is not looked at."""
        kid, kind = header.get("kid"), header.get("typ", "JWT")
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None or header.get("alg") != key.algorithm or "crit" in header:
            raise TokenError("the token is not valid")
        if not isinstance(kind, str) or kind.upper() != "JWT":
            raise TokenError("the token is not valid")
        return key


def _principal(claims: Claims) -> Principal:
    if any(not text.isprintable() for text in (claims.sub, claims.tenant, claims.session or "")):
        raise TokenError("the token is not valid")
    if claims.exp > MAX_TS / 1000:
        raise TokenError("the token is not valid: it would hold beyond the year 9999; exp is in seconds")
    channels = claims.channels
    if claims.role == "client":
        if claims.session is None or channels is not None:
            raise TokenError("the token is not valid: a client has a session and no channels")
        named: tuple[str, ...] = (CLIENT_CHANNEL,)
    else:
        if claims.session is not None or not set(channels or ()) <= set(CHANNELS):
            raise TokenError("the token is not valid: a dashboard has no session, and channels that there are")
        named = CHANNELS if channels is None else tuple(channel for channel in CHANNELS if channel in channels)
    return Principal(claims.tenant, claims.role, claims.sub, claims.session, named, claims.exp, claims.jti)


def sign(key: Key, claims: Mapping[str, object]) -> str:
    """Return a token.

    Raises:
        ConfigError: the key can only verify.
    """
    if key.signing is None:
        raise ConfigError(f"gateway.keys.{key.name}: a public key makes no tokens: name the file of the private one")
    return jwt.encode(dict(claims), key.signing, algorithm=key.algorithm, headers={"kid": key.name})
