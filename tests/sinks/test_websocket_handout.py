"""The demo's tokens: for this machine, its own page and its programs, and for nobody else."""

import pytest

from sinks.websocket.handout import PATH, TTL_S, Handout
from tests.fix_websocket import KEY, TOKENS, Running, StartGateway

SHOP = "http://127.0.0.1:8090"


@pytest.fixture
def demo(start_gateway: StartGateway) -> Running:
    """Start a gateway that hands out tokens."""
    handout = Handout(KEY, "https://issuer.test", "gateway.test", ("first", "second"), (SHOP,))
    return start_gateway(verify=TOKENS.verify, pages={PATH: handout})


@pytest.mark.parametrize(
    "query, expected",
    [
        ("", ("first", "dashboard", "demo", None)),
        ("?role=dashboard&tenant=second", ("second", "dashboard", "demo", None)),
        ("?role=client&session=s%2F1&user=ann", ("first", "client", "ann", "s/1")),
    ],
)
def test_a_token_is_handed_out(demo: Running, query: str, expected: tuple[str | None, ...]) -> None:
    response, body = demo.http(PATH + query)
    assert (response.status, response.getheader("Content-Type")) == (200, "text/plain; charset=utf-8")
    who = TOKENS.verify(body.decode())
    assert (who.tenant, who.role, who.user, who.session) == expected
    assert demo.browser(body.decode()).hello["tenant"] == expected[0]


@pytest.mark.parametrize(
    "query",
    [
        "?role=client",
        "?role=client&session=s",
        "?role=developer",
        "?session=s",
        "?exp=1",
        "?role=client&user=u",
        "?a=1&b",
    ],
)
def test_what_makes_no_sense_is_refused(demo: Running, query: str) -> None:
    assert demo.http(PATH + query)[0].status == 400


def test_a_tenant_that_is_not_there_is_told_those_that_are(demo: Running) -> None:
    response, body = demo.http(f"{PATH}?tenant=third")
    assert (response.status, body) == (400, b"Expected one of the tenants first, second.\n")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.evil.example:{port}"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"Origin": SHOP, "Host": "evil.example"},
        {"Origin": SHOP, "X-Forwarded-For": "127.0.0.1"},
        {"Origin": SHOP + ".evil.example"},
        {"Origin": f"{SHOP}, {SHOP}"},
    ],
    ids=str,
)
def test_nobody_else_gets_one(demo: Running, headers: dict[str, str]) -> None:
    port = str(demo.gateway.port)
    response, body = demo.http(PATH, **{name: value.replace("{port}", port) for name, value in headers.items()})
    assert (response.status, b"." in body[:-2]) == (403, False)


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}"])
def test_the_own_page_gets_one(demo: Running, host: str) -> None:
    name = host.replace("{port}", str(demo.gateway.port))
    headers = {"Host": name, "Origin": f"http://{name}", "Sec-Fetch-Site": "same-origin"}
    assert demo.http(PATH, **headers)[0].status == 200


def test_a_page_of_an_origin_that_may_connect_gets_a_client_s(demo: Running) -> None:
    from_shop = {"Origin": SHOP, "Sec-Fetch-Site": "same-site"}
    response, body = demo.http(f"{PATH}?role=client&session=s&user=ann", **from_shop)
    assert (response.status, response.getheader("Access-Control-Allow-Origin")) == (200, SHOP)
    who = TOKENS.verify(body.decode())
    assert (who.tenant, who.role, who.session) == ("first", "client", "s")
    for query in ("", "?role=dashboard", "?role=dashboard&tenant=second"):
        response, body = demo.http(PATH + query, **from_shop)
        assert (response.status, body) == (403, b"Pages of other origins get tokens of role=client alone.\n")
    assert demo.http(PATH)[0].getheader("Access-Control-Allow-Origin") is None


def test_only_reading_is_allowed_here_too(demo: Running) -> None:
    assert demo.http(PATH, "POST")[0].status == 405


def test_elsewhere_the_path_does_not_exist(start_gateway: StartGateway) -> None:
    assert start_gateway(verify=TOKENS.verify).http(PATH)[0].status == 404
    assert TTL_S <= 3_600
