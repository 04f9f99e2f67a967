"""Tokens: which are taken, which are not, and that none of them is ever told to anybody."""

import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from websockets.exceptions import InvalidStatus

from schemas.errors import ConfigError
from schemas.registry import CHANNELS
from sinks.websocket.principal import Principal
from sinks.websocket.revoked import Revoked
from sinks.websocket.tokens import Algorithm, Key, TokenError, Tokens, read_key, sign
from tests.fix_websocket import DEADLINE_S, KEY, TOKENS, Browser, Running, StartGateway, claims, eventually, token

SECRET = bytes(KEY.signing)


def pem(private: Any) -> bytes:
    return bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def public(private: Any) -> bytes:
    return bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


MADE: dict[Algorithm, Any] = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "RS256": rsa.generate_private_key(65_537, 2_048),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forged(header: dict[str, object], secret: bytes | None = SECRET, **more: Any) -> str:
    """Return a token by hand, with any header, signed by HMAC or (None) not at all."""
    body = f"{part(header)}.{part(claims(**more))}"
    if secret is None:
        return f"{body}."
    signature = hmac.digest(secret, body.encode(), hashlib.sha256)
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def flipped(at: int) -> str:
    """Return a token with one bit of its signature the other way round."""
    head, _, signature = token().rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    raw[at] ^= 1
    return f"{head}.{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}"


NOW = int(time.time())
"""When the tests were collected: they may run long after."""
DAY_S = 86_400
GOOD_HEADER: dict[str, object] = {"alg": "HS256", "typ": "JWT", "kid": "test"}


def test_a_good_token_tells_who_it_is() -> None:
    assert TOKENS.verify(forged(GOOD_HEADER)).tenant == "t", "else the forgeries below prove nothing"
    who = TOKENS.verify(token("acme", user="ann", channels=["sessions", "engagement"], jti="j", exp=NOW + DAY_S))
    assert who == Principal("acme", "dashboard", "ann", None, ("engagement", "sessions"), NOW + DAY_S, "j")
    assert TOKENS.verify(token()).channels == CHANNELS
    client = TOKENS.verify(token("acme", "client", "bob", session="s"))
    assert (client.role, client.session, client.channels) == ("client", "s", ("interventions",))


BAD: dict[str, str | Callable[[], str]] = {
    "empty": "",
    "no token": "hunter2",
    "two parts": "a.b",
    "not signed": forged({**GOOD_HEADER, "alg": "none"}, None),
    "not signed, loudly": forged({**GOOD_HEADER, "alg": "NONE"}, None),
    "not signed, oddly": forged({**GOOD_HEADER, "alg": "nOnE"}, None),
    "signature taken off": token().rpartition(".")[0] + ".",
    "first bit": flipped(0),
    "last bit": flipped(-1),
    "another secret": forged(GOOD_HEADER, b"x" * 40),
    "another algorithm of the family": jwt.encode(claims(), SECRET, "HS512", headers={"kid": "test"}),
    "no kid": forged({"alg": "HS256", "typ": "JWT"}),
    "unknown kid": forged({**GOOD_HEADER, "kid": "other"}),
    "kid is a path": forged({**GOOD_HEADER, "kid": "../../../../dev/null"}, b""),
    "kid is SQL": forged({**GOOD_HEADER, "kid": "x' UNION SELECT 'k"}, b"k"),
    "kid is a list": forged({**GOOD_HEADER, "kid": ["test"]}),
    "its own key by jwk": jwt.encode(
        claims(), MADE["RS256"], "RS256", headers={"kid": "test", "jwk": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}}
    ),
    "its own key by jku": jwt.encode(
        claims(), MADE["RS256"], "RS256", headers={"kid": "test", "jku": "https://evil.example/keys"}
    ),
    "its own key by x5u": forged({**GOOD_HEADER, "x5u": "https://evil.example/"}, b"x" * 40),
    "critical extension": forged({**GOOD_HEADER, "crit": ["exp"]}),
    "another type": forged({**GOOD_HEADER, "typ": "logout+jwt"}),
    "type is a number": forged({**GOOD_HEADER, "typ": 1}),
    "expired": token(exp=NOW - 60),
    "not valid yet": token(nbf=NOW + DAY_S),
    "made in the future": token(iat=NOW + DAY_S),
    "no end": forged(GOOD_HEADER, exp=None),
    "endless": forged(GOOD_HEADER, exp=float("inf")),
    "as good as endless": forged(GOOD_HEADER, exp=1e308),
    "end in nanoseconds": forged(GOOD_HEADER, exp=NOW * 10**9),
    "end is a text": forged(GOOD_HEADER, exp="soon"),
    "no begin": forged(GOOD_HEADER, nbf=None),
    "another audience": token(aud="other.test"),
    "audience begins well": token(aud="gateway.test.evil.example"),
    "no audience": forged(GOOD_HEADER, aud=None),
    "another issuer": token(iss="https://issuer.test.evil"),
    "no issuer": forged(GOOD_HEADER, iss=None),
    "no user": forged(GOOD_HEADER, sub=None),
    "empty user": token(user=""),
    "user is a number": forged(GOOD_HEADER, sub=1),
    "user of many lines": token(user="a\nb"),
    "no tenant": forged(GOOD_HEADER, tenant=None),
    "empty tenant": token(""),
    "tenant is a list": forged(GOOD_HEADER, tenant=["t", "u"]),
    "long tenant": token("t" * 129),
    "no role": forged(GOOD_HEADER, role=None),
    "role of the house": token(role="developer"),
    "unknown role": token(role="admin"),
    "client without a session": token(role="client"),
    "client with channels": token(role="client", session="s", channels=["engagement"]),
    "dashboard with a session": token(session="s"),
    "unknown channel": token(channels=["engagement", "*"]),
    "channels are a text": token(channels="engagement"),
    "long": token(pad="x" * 10_000),
    "deep": f"{part(GOOD_HEADER)}.{base64.urlsafe_b64encode(b'[' * 5_000).decode().rstrip('=')}.x",
}


@pytest.mark.parametrize("shown", BAD.values(), ids=BAD)
def test_other_tokens_are_refused(shown: str) -> None:
    with pytest.raises(TokenError) as caught:
        TOKENS.verify(shown)
    assert len(str(caught.value)) < 90
    assert not any(piece in str(caught.value) for piece in shown.split(".") if len(piece) > 5)


@pytest.mark.parametrize("algorithm", MADE)
def test_keys_of_every_kind_and_several_at_once(algorithm: Algorithm) -> None:
    private = read_key("new", algorithm, pem(MADE[algorithm]))
    tokens = Tokens([KEY, read_key("new", algorithm, public(MADE[algorithm]))], "https://issuer.test", "gateway.test")
    assert tokens.verify(sign(private, claims("acme"))).tenant == "acme"
    assert tokens.verify(token("old")).tenant == "old", "the old key holds while both are there"
    with pytest.raises(TokenError):
        tokens.verify(sign(Key("test", algorithm, None, private.signing), claims()))
    with pytest.raises(TokenError):
        TOKENS.verify(sign(private, claims()))
    with pytest.raises(ConfigError, match="a public key makes no tokens"):
        sign(read_key("new", algorithm, public(MADE[algorithm])), claims())


@pytest.mark.parametrize("algorithm", MADE)
def test_a_public_key_is_no_secret(algorithm: Algorithm) -> None:
    """The RS to HS confusion: what everybody may know, used as the secret of an HMAC."""
    known = public(MADE[algorithm])
    tokens = Tokens([read_key("k", algorithm, known)], "https://issuer.test", "gateway.test")
    for secret in (known, known.strip()):
        with pytest.raises(TokenError):
            tokens.verify(forged({"alg": "HS256", "typ": "JWT", "kid": "k"}, secret))


@pytest.mark.parametrize(
    "algorithm, material, says",
    [
        ("HS256", b"x" * 31, "at least 32 bytes, got 31"),
        ("RS256", public(MADE["ES256"]), "an RSA key of 2048 bits"),
        ("RS256", public(rsa.generate_private_key(65_537, 1_024)), "an RSA key of 2048 bits"),  # noqa: S505 - refused
        ("ES256", public(ec.generate_private_key(ec.SECP384R1())), "a key on the curve P-256"),
        ("EdDSA", public(MADE["RS256"]), "an Ed25519 key"),
        ("ES256", b"hunter2-hunter2-hunter2-hunter2-", "as PEM"),
        ("ES256", b"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n", "as PEM"),
    ],
)
def test_weak_and_wrong_keys_are_refused(algorithm: Algorithm, material: bytes, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read_key("main", algorithm, material)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.__cause__)


def test_keys_don_t_show_themselves() -> None:
    assert SECRET.decode() not in repr(KEY)


def late(running: Running, shown: str) -> Browser:
    """Connect as a browser does: the token comes in the first message."""
    browser = running.browser()
    assert browser.hello == {"op": "challenge", "within_s": 5.0}
    browser.say(op="authenticate", token=shown)
    return browser


def test_both_ways_to_show_a_token(start_gateway: StartGateway) -> None:
    running = start_gateway(verify=TOKENS.verify)
    assert running.browser(token("acme", user="ann")).hello["tenant"] == "acme"
    assert late(running, token("acme", user="ann")).read()["user"] == "ann"


@pytest.mark.parametrize("shown", ["expired", "not signed", "first bit", "another audience", "kid is a path", "long"])
def test_a_bad_token_gets_nobody_in(start_gateway: StartGateway, shown: str) -> None:
    running = start_gateway(verify=TOKENS.verify)
    bad = str(BAD[shown])
    with pytest.raises(InvalidStatus) as caught:
        running.browser(bad)
    # A header may have at most 8 KiB.
    assert caught.value.response.status_code in ((400, 431) if shown == "long" else (401,))
    if shown != "long":
        assert late(running, bad).closed()[0] == 4001
    assert not running.gateway._hub._clients


@pytest.mark.parametrize("first", ['{"op":"ping"}', '{"op":"subscribe","channels":["engagement"]}', "?", b"\x00"])
def test_nothing_but_a_token_comes_first(start_gateway: StartGateway, first: str | bytes) -> None:
    browser = start_gateway(verify=TOKENS.verify).browser()
    browser.connection.send(first)
    assert browser.closed() == (4001, "expected a token first")


def test_a_token_must_come_in_time(start_gateway: StartGateway) -> None:
    running = start_gateway(verify=TOKENS.verify, handshake_timeout_s=0.2)
    assert running.browser().closed() == (4001, "expected a token in time")


@pytest.mark.parametrize(
    "options, status",
    [
        ({"additional_headers": {"Cookie": "token={token}; session={token}"}}, None),
        ({"additional_headers": {"Authorization": "Basic {token}"}}, 401),
        ({"additional_headers": {"X-Token": "{token}", "Token": "{token}"}}, None),
        ({"additional_headers": [("Authorization", "Bearer {token}"), ("Authorization", "Bearer x")]}, 403),
        ({"subprotocols": ["bearer", "{token}"]}, None),
    ],
    ids=["cookie", "basic", "other headers", "two", "subprotocol"],
)
def test_there_is_no_third_way(start_gateway: StartGateway, options: dict[str, Any], status: int | None) -> None:
    running = start_gateway(verify=TOKENS.verify)
    options = eval(repr(options).replace("{token}", token()))  # noqa: S307 - our own literal
    if status is None:
        assert running.browser(**options).hello["op"] == "challenge"
    else:
        with pytest.raises(InvalidStatus) as caught:
            running.browser(**options)
        assert caught.value.response.status_code == status


@pytest.mark.parametrize("query", ["token={}", "access_token={}", "x=1", ""])
def test_a_token_in_the_address_is_refused(start_gateway: StartGateway, query: str) -> None:
    running = start_gateway(verify=TOKENS.verify)
    response, body = running.http(f"/ws?{query.format(token())}")
    assert (response.status, b"no query" in body) == (400, True)


def test_a_token_that_expires_ends_the_connection(start_gateway: StartGateway) -> None:
    running = start_gateway(verify=TOKENS.verify, sweep_s=0.05)
    began = time.time()
    browser = running.browser(token(exp=int(began) + 2))
    browser.subscribe("engagement")
    assert browser.closed() == (4002, "the token has expired")
    assert began < time.time() < began + DEADLINE_S


def test_a_fresh_token_keeps_the_connection(start_gateway: StartGateway) -> None:
    running = start_gateway(verify=TOKENS.verify, sweep_s=0.05)
    browser = running.browser(token(exp=NOW + DAY_S))
    for other in (token("other"), token(user="other"), token(channels=["sessions"]), token(role="client", session="s")):
        assert browser.ask(op="authenticate", token=other)["code"] == "bad_token"
    assert browser.ask(op="authenticate", token=str(BAD["expired"]))["code"] == "bad_token"
    assert browser.ask(op="authenticate", token=token(exp=NOW + 2 * DAY_S)) == {
        "op": "authenticated",
        "expires_ts": (NOW + 2 * DAY_S) * 1_000,
    }
    (client,) = running.gateway._hub._clients
    assert client.principal.expires == NOW + 2 * DAY_S
    running.gateway._hub.sweep(NOW + 2 * DAY_S - 1)
    assert client.close is None
    running.gateway._hub.sweep(NOW + 2 * DAY_S)
    assert client.close is not None


def test_revoked_tokens_and_users_are_closed_and_stay_out(start_gateway: StartGateway, tmp_path: Path) -> None:
    path = tmp_path / "revoked.toml"
    path.write_text("")
    running = start_gateway(verify=TOKENS.verify, revoked=Revoked(path), sweep_s=0.05)
    first, second = token(user="ann", jti="one"), token(user="bob", jti="two")
    by_token, other_token = running.browser(first), running.browser(token(user="ann", jti="three"))
    by_user = [running.browser(second) for _ in range(3)]
    namesake = running.browser(token("other", user="bob"))
    path.write_text('tokens = ["one"]\n[subjects]\nt = ["bob"]\n')
    for browser in (by_token, *by_user):
        assert browser.closed() == (4003, "the token was revoked")
    for shown in (first, second):
        with pytest.raises(InvalidStatus, match="401"):
            running.browser(shown)
        assert late(running, shown).closed()[0] == 4003
    assert other_token.ask(op="ping") == namesake.ask(op="ping") == {"op": "pong"}


def test_a_list_that_breaks_leaves_the_one_before_in_force(tmp_path: Path) -> None:
    path = tmp_path / "revoked.toml"
    path.write_text('tokens = ["one"]')
    revoked = Revoked(path)
    who = Principal("t", "dashboard", "u", token_id="one")
    for broken in ("tokens = [", 'tokens = "one"', 'token = ["two"]', "[subjects]\nt = 1"):
        path.write_text(broken)
        revoked.read()
        assert revoked(who)
        with pytest.raises(ConfigError, match=r"gateway\.revoked: .*expected tokens"):
            Revoked(path)
    path.unlink()
    revoked.read()
    assert revoked(who)
    path.write_text("")
    revoked.read()
    assert not revoked(who)


def test_no_log_holds_a_token(
    start_gateway: StartGateway,
    caplog: pytest.LogCaptureFixture,
    capfd: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "websockets")
    # The clients of this test log what they send, also to handlers that earlier tests have left.
    monkeypatch.setattr(logging.getLogger("websockets.client"), "propagate", False)
    running = start_gateway(verify=TOKENS.verify, sweep_s=0.05)
    shown = [token(jti=str(n)) for n in range(4)] + [str(BAD["expired"]), str(BAD["first bit"])]
    running.browser(shown[0]).subscribe("engagement")
    late(running, shown[1]).ask(op="authenticate", token=shown[2])
    for bad in shown[4:]:
        with pytest.raises(InvalidStatus):
            running.browser(bad)
        late(running, bad).closed()
    running.http(f"/ws?token={shown[3]}")
    running.http(f"/{shown[3]}")
    for headers in ({"Authorization": f"Bearer {shown[3]}\x7f"}, {f"Bad({shown[3]}": "x"}):
        with suppress(HTTPException):  # that can't be read
            running.http("/ws", **headers)
    running.stop()
    out, err = capfd.readouterr()
    told = "\n".join([*(record.getMessage() + str(record.exc_info) for record in caplog.records), out, err])
    assert "websocket gateway listens" in told
    for one in shown:
        assert not any(piece in told for piece in one.split(".")[1:]), "claims or signature"


def test_a_crashed_check_says_nothing_of_itself(start_gateway: StartGateway) -> None:
    def broken(_token: str) -> Principal:
        raise RuntimeError("password=hunter2")

    running = start_gateway(verify=broken)
    with pytest.raises(InvalidStatus) as caught:
        running.browser(token())
    assert caught.value.response.status_code == 500
    assert b"hunter2" not in (caught.value.response.body or b"")
    browser = late(running, token())
    assert browser.closed()[0] == 1011
    eventually(lambda: not running.gateway._server._seats, "nobody has a seat")
