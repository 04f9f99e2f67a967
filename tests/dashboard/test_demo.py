"""The demo's page in a real browser, and a gateway process that is killed under it."""

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from confluent_kafka import Producer
from playwright.sync_api import expect

from flows.local.kafka import mock_kafka
from schemas.outbound import Engagement
from schemas.registry import OUTBOUND_TOPICS
from tests.dashboard import told
from tests.fix_browser import Tab
from tests.flows.running import DEADLINE_S, start

TOPIC = "attune.engagement.v1"


@contextmanager
def running(arguments: list[str], folder: Path, **extra: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a command that serves the dashboard; gives its process and its address."""
    process = start(arguments, folder, **extra)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("dashboard"), process.communicate(timeout=DEADLINE_S)
        yield process, line.split()[-1]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)


def test_the_demo_opens_on_the_dashboard(tmp_path: Path, tab: Tab, photograph: Callable[[Tab, str], Path]) -> None:
    tmp_path.chmod(0o755)
    page = tab.page
    with running(["demo", "--port", "0"], tmp_path, ATTUNE_METRICS__ENABLED="false") as (_, url):
        page.goto(url)
        expect(page.locator("#state")).to_have_text("Live")
        expect(page.locator(".row", has_text="all-hands-1")).to_be_visible(timeout=15_000)
        first = page.locator("#score").inner_text()
        expect(page.locator("#score")).not_to_have_text(first, timeout=15_000)
        banner = page.locator("#alarms .banner").filter(has_text="Mass exit")
        expect(banner).to_contain_text("CRITICAL", timeout=60_000)
        expect(page.locator("#detail-title")).to_have_text("all-hands-1")
        expect(page.locator("#chart .scatterlayer .trace").first).to_be_attached()
        expect(page.locator("#delivery .amount").nth(1)).to_have_text(re.compile(r"^[\d,]+ ms$"))
        photograph(tab, "demo")
        assert tab.complaints == []


def test_a_killed_gateway_is_missed_and_nothing_is_missing_after_it(tmp_path: Path, tab: Tab) -> None:
    page = tab.page
    scores = [round(0.3 + 0.02 * (tick % 20), 2) for tick in range(30)]
    with mock_kafka(OUTBOUND_TOPICS, 1) as broker:
        settings = {"ATTUNE_KAFKA__BOOTSTRAP_SERVERS": broker, "ATTUNE_METRICS__ENABLED": "false"}
        producer = Producer({"bootstrap.servers": broker})

        def send(records: list[Engagement]) -> None:
            for record in records:
                key = f"{record.tenant_id}/{record.session_id}"
                producer.produce(TOPIC, msgspec.json.encode(record), key)
            assert producer.flush(DEADLINE_S) == 0

        course = told.course("room", scores)
        with running(["run", "gateway"], tmp_path, **settings, ATTUNE_GATEWAY__PORT="0") as (process, url):
            page.goto(url)
            expect(page.locator("#state")).to_have_text("Live")
            send(course[:10])
            expect(page.locator("#score")).to_have_text(f"{scores[9]:.2f}")
            assert tab.complaints == []
            process.kill()
            expect(page.locator("#state")).to_have_text("Reconnecting")
            expect(page.locator("#cut")).to_contain_text("The connection is lost. What is shown is as of")
            send(course[10:20])
        port = url.rstrip("/").rpartition(":")[2]
        time.sleep(1)  # so that the page tries in vain once
        with running(["run", "gateway"], tmp_path, **settings, ATTUNE_GATEWAY__PORT=port):
            expect(page.locator("#state")).to_have_text("Live", timeout=30_000)
            expect(page.locator("#cut")).to_be_hidden()
            send(course[20:])
            expect(page.locator("#score")).to_have_text(f"{scores[-1]:.2f}")
            page.locator("summary").click()
            expect(page.locator("#points td:nth-child(2)")).to_have_text([f"{score:.2f}" for score in reversed(scores)])
