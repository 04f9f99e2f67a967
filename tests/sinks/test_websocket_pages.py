"""Plain HTTP on the gateway's port: the dashboard, health, and nothing else."""

import json
import re
from pathlib import Path

import pytest

from sinks.websocket.config import DASHBOARD
from sinks.websocket.pages import FILES
from tests.fix_websocket import Running, StartGateway


@pytest.mark.parametrize("path", FILES)
def test_the_dashboard_is_served(running: Running, path: str) -> None:
    name, kind = FILES[path]
    response, body = running.http(path)
    assert response.status == 200
    assert body == (DASHBOARD / name).read_bytes()
    assert response.getheader("Content-Type") == kind
    assert response.getheader("X-Content-Type-Options") == "nosniff"
    policy = response.getheader("Content-Security-Policy", "")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.getheader("Server") is None


def test_every_file_of_the_dashboard_is_known() -> None:
    assert {path.name for path in DASHBOARD.iterdir()} == {name for name, _ in FILES.values()}


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
    assert int(response.getheader("Content-Length", "0")) == (DASHBOARD / "index.html").stat().st_size


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


def test_the_page_names_every_element_that_its_script_uses() -> None:
    page = Path(DASHBOARD / "index.html").read_text(encoding="utf-8")
    script = Path(DASHBOARD / "dashboard.js").read_text(encoding="utf-8")
    used = set(re.findall(r'\bat\("([\w-]+)"\)', script))
    assert used
    assert used <= set(re.findall(r'\bid="([\w-]+)"', page))
