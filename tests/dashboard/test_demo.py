"""The demo's page in a real browser, and a gateway process that is killed under it."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from confluent_kafka import Producer
from playwright.sync_api import expect

from schemas.outbound import Engagement
from schemas.registry import OUTBOUND_TOPICS
from tests.dashboard import told
from tests.fix_browser import Photograph, Tab
from tests.fix_kafka import make_topics, wait_until
from tests.flows.running import DEADLINE_S, environment


@pytest.fixture
def port() -> int:
    """Return a port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], folder: Path, port: int, **extra: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until it serves the dashboard."""
    settings = {"ATTUNE_GATEWAY__PORT": str(port), "ATTUNE_METRICS__ENABLED": "false", "ATTUNE_COLLECTOR__PORT": "0"}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *command],
            cwd=folder,
            env=environment(settings | extra),
            stdout=log,
            stderr=log,
        )
    try:
        with socket.socket() as probe:
            wait_until(lambda: probe.connect_ex(("127.0.0.1", port)) == 0 or process.poll() is not None, "it listens")
        assert process.poll() is None, (folder / "log").read_text()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(DEADLINE_S)


def test_the_demo_opens_on_the_dashboard(tmp_path: Path, port: int, tab: Tab, photograph: Photograph) -> None:
    tmp_path.chmod(0o755)
    page = tab.page
    with running(["demo"], tmp_path, port):
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.locator("#state")).to_have_text("Live")
        expect(page.locator(".row", has_text="all-hands-1")).to_be_visible(timeout=15_000)
        first = page.locator("#score").inner_text()
        expect(page.locator("#score")).not_to_have_text(first)
        banner = page.locator("#alarms .banner").filter(has_text="Mass exit")
        expect(banner).to_contain_text("CRITICAL", timeout=60_000)
        expect(page.locator("#detail-title")).to_have_text("all-hands-1")
        expect(page.locator("#interventions .what").last).to_have_text("Notification")
        expect(page.locator("#interventions .tag").last).to_have_text("fired")
        expect(page.locator("#chart .scatterlayer .trace").first).to_be_attached()
        expect(page.locator("#chart .annotation")).to_have_text("critical: below 0.3 a session needs help")
        expect(page.locator("#delivery .amount").nth(1)).to_have_text(re.compile(r"^[\d,]+ ms$"))
        photograph(tab, "demo")
        page.get_by_role("button", name="web-shop").click()
        expect(page.locator("#emotions .what").first).to_be_visible()
        expect(page.locator("#delivery .amount").nth(2)).to_have_text(re.compile(r"^[\d,]+ ms$"))
        assert tab.complaints == []


def test_a_page_of_another_origin_sees_help_when_it_is_clicked_in_anger(
    tmp_path: Path, port: int, tab: Tab, examples: str
) -> None:
    """As a page's author does it: the page in docs/examples, served from somewhere else, named in gateway.origins."""
    tmp_path.chmod(0o755)
    page = tab.page
    with running(["demo"], tmp_path, port, ATTUNE_GATEWAY__ORIGINS=examples):
        told = re.compile(r"^collector +(\S+)/ +\(key (\S+), tenant \S+\)$", re.MULTILINE)
        wait_until(lambda: bool(told.search((tmp_path / "log").read_text())), "the collector is told")
        (found,) = told.findall((tmp_path / "log").read_text())
        wait_until(lambda: "broker     127.0.0.1:" in (tmp_path / "log").read_text(), "the broker is told")
        with page.expect_response("**/api/telemetry/stream?*"):
            page.goto(f"{examples}/shop.html?gateway={port}&collector={urlsplit(found[0]).port}&key={found[1]}")
        for _ in range(3):
            page.get_by_role("button", name="Buy").click()
        box = page.locator("[data-attune-box=help_chat]")
        expect(box).to_be_visible()
        expect(box).to_contain_text(re.compile(r"\w{3}"))
        box.get_by_role("button", name="Close").click()
        expect(box).to_have_count(0)
        assert tab.complaints == []


def test_a_killed_gateway_is_missed_and_nothing_is_missing_after_it(
    tmp_path: Path, port: int, kafka: str, topic: str, tab: Tab, photograph: Photograph
) -> None:
    page = tab.page
    scores = [round(0.3 + 0.02 * (tick % 20), 2) for tick in range(30)]
    course = told.course("room", scores)
    names = {name: f"{topic}.{name}" for name in OUTBOUND_TOPICS}
    make_topics(kafka, *names.values())
    settings = {"ATTUNE_KAFKA__BOOTSTRAP_SERVERS": kafka, "ATTUNE_KAFKA__TOPICS": json.dumps(names)}
    producer = Producer({"bootstrap.servers": kafka})

    def send(records: list[Engagement]) -> None:
        for record in records:
            producer.produce(names["attune.engagement.v1"], msgspec.json.encode(record), f"acme/{record.session_id}")
        assert producer.flush(DEADLINE_S) == 0

    with running(["run", "gateway"], tmp_path, port, **settings) as process:
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.locator("#state")).to_have_text("Live")
        send(course[:10])
        expect(page.locator("#score")).to_have_text(f"{scores[9]:.2f}")
        assert tab.complaints == []
        process.kill()
        expect(page.locator("#state")).to_have_text("Reconnecting")
        expect(page.locator("#cut")).to_contain_text("The connection is lost. What is shown is as of")
        photograph(tab, "reconnecting")
        send(course[10:20])
    with running(["run", "gateway"], tmp_path, port, **settings):
        expect(page.locator("#state")).to_have_text("Live", timeout=30_000)
        expect(page.locator("#cut")).to_be_hidden()
        send(course[20:])
        page.locator("summary").click()
        rows = page.locator("#points td:nth-child(2)")
        expect(rows).to_have_text([f"{score:.2f}" for score in reversed(scores)])
