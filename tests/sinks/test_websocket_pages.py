"""Plain HTTP on the gateway's port: the dashboard, health, and nothing else."""

import gzip
import hashlib
import json
import re
import socket

import pytest

from sinks.websocket.config import DASHBOARD
from sinks.websocket.pages import library, read_files
from tests.fix_websocket import Running, StartGateway

FILES = read_files(DASHBOARD)
LIBRARY, _ = library()


@pytest.mark.parametrize("path", FILES)
def test_the_dashboard_is_served(running: Running, path: str) -> None:
    response, body = running.http(path)
    assert response.status == 200
    assert body == FILES[path].body
    assert response.getheader("Content-Type") == FILES[path].kind
    assert response.getheader("Content-Encoding") is None
    assert response.getheader("Vary") == "Accept-Encoding"
    assert response.getheader("X-Content-Type-Options") == "nosniff"
    policy = response.getheader("Content-Security-Policy", "")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.getheader("Server") is None


@pytest.mark.parametrize("path", FILES)
def test_whoever_takes_gzip_gets_less(running: Running, path: str) -> None:
    accepted = {"Accept-Encoding": "gzip, br"}
    response, body = running.http(path, **accepted)
    assert response.getheader("Content-Encoding") == "gzip"
    assert gzip.decompress(body) == FILES[path].body
    assert len(body) < len(FILES[path].body)
    refused = {"Accept-Encoding": "gzip;q=0, identity"}
    assert running.http(path, **refused)[0].getheader("Content-Encoding") is None


def test_every_file_of_the_dashboard_is_served_as_it_is() -> None:
    names = {file.name for file in DASHBOARD.iterdir()}
    assert set(FILES) == {LIBRARY, "/", *(f"/{name}" for name in names - {"index.html"})}
    page = (DASHBOARD / "index.html").read_text(encoding="utf-8")
    assert FILES["/"].body.decode() == page.replace('"/plotly.js"', f'"{LIBRARY}"')
    assert FILES["/dashboard.js"].body == (DASHBOARD / "dashboard.js").read_bytes()


def test_the_chart_library_is_the_installed_one_and_kept_for_a_year(running: Running) -> None:
    response, body = running.http(LIBRARY)
    assert body.startswith(b"/**\n* plotly.js v")
    assert hashlib.sha256(body).hexdigest()[:12] in LIBRARY
    assert response.getheader("Cache-Control") == "public, max-age=31536000, immutable"
    assert running.http("/")[0].getheader("Cache-Control") == "no-cache"
    assert running.http("/plotly.js")[0].status == 404


def test_a_slow_reader_gets_the_whole_library(running: Running) -> None:
    with socket.socket() as plug:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        plug.settimeout(20)
        plug.connect(("127.0.0.1", running.gateway.port))
        plug.sendall(f"GET {LIBRARY} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        got = bytearray()
        while part := plug.recv(8_192):
            got += part
    assert got.partition(b"\r\n\r\n")[2] == FILES[LIBRARY].body


@pytest.mark.parametrize(
    "path",
    [
        *("/nothing", "/index.html", "/dashboard.js/", "//", "/.", "/..", "/ws/", "/health", "/metrics"),
        *("/../pyproject.toml", "/../../etc/passwd", "/%2e%2e/pyproject.toml", "/..%2fpyproject.toml"),
        *("/dashboard.css/../../pyproject.toml", "/..\\pyproject.toml", "/%00", "/dashboard.js%00", "*"),
        *("http://elsewhere.example/", "/" + "a" * 4_000),
    ],
)
def test_other_paths_are_not_found(running: Running, path: str) -> None:
    response, body = running.http(path)
    assert (response.status, body) == (404, b"Not found.\n")


def test_only_reading_is_allowed(running: Running) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        response, _ = running.http("/", method)
        assert (response.status, response.getheader("Allow")) == (405, "GET, HEAD")
    response, body = running.http("/", "HEAD")
    assert (response.status, body) == (200, b"")
    assert int(response.getheader("Content-Length", "0")) == len(FILES["/"].body)


def test_a_query_changes_nothing(running: Running) -> None:
    assert running.http("/health/live?x=../..")[0].status == 200


def test_the_websocket_path_wants_a_websocket(running: Running) -> None:
    assert running.http("/ws")[0].status == 426


def test_health(start_gateway: StartGateway) -> None:
    parts = {"kafka": "ok", "database": "connection refused"}

    def ready() -> dict[str, str]:
        return parts

    running = start_gateway(ready=ready)
    response, body = running.http("/health/live")
    assert (response.status, json.loads(body)) == (200, {"live": "ok"})
    response, body = running.http("/health/ready")
    assert (response.status, json.loads(body)) == (503, parts)
    parts["database"] = "ok"
    response, body = running.http("/health/ready")
    assert (response.status, json.loads(body), response.getheader("Content-Type")) == (200, parts, "application/json")


def test_a_check_that_fails_is_not_ready_and_tells_no_internals(start_gateway: StartGateway) -> None:
    def ready() -> dict[str, str]:
        raise RuntimeError("password=hunter2")

    running = start_gateway(ready=ready)
    response, body = running.http("/health/ready")
    assert response.status == 503
    assert b"hunter2" not in body
    assert running.http("/health/live")[0].status == 200


def test_ws_info_counts_clients_by_channel_and_tells_nothing_else(running: Running) -> None:
    first, second = running.browser(), running.browser()
    first.subscribe("engagement", "anomalies", sessions=["secret-session", "other"])
    second.subscribe("engagement")
    response, body = running.http("/api/emotional/ws-info")
    assert (response.status, response.getheader("Content-Type")) == (200, "application/json")
    told = json.loads(body)
    assert list(told) == ["clients"]
    assert {channel: n for channel, n in told["clients"].items() if n} == {"engagement": 2, "anomalies": 1}


def test_the_page_loads_nothing_from_elsewhere_and_writes_text_only() -> None:
    for path in sorted(DASHBOARD.iterdir()):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[a-z0-9]+\.", text), path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function", text), path
        assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+=", text), f"{path}: forbidden by the policy"
        for found in re.findall(r"""(?:src|href|from)\s*=?\s*["']\.?(/[\w./-]+)["']""", text):
            assert found in FILES, f"{path} names {found}, which is not served"


def test_the_page_names_every_element_that_its_scripts_use() -> None:
    page = (DASHBOARD / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'\bid="([\w.-]+)"', page)
    assert len(named) == len(set(named))
    used = {i for path in DASHBOARD.glob("*.js") for i in re.findall(r'\bat\("([\w-]+)"\)', path.read_text("utf-8"))}
    assert used
    assert used <= set(named)
