"""Pages in a real Chromium that include the snippet: from the click that completes the trouble to the box on screen.

A small web server stands for the shop: another origin than the gateway's and the collector's, with a token for each
visitor at a path of its own, as ``docs/collector.md`` tells page authors. All times are the page's own.
"""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from playwright.sync_api import Browser, sync_playwright
from playwright.sync_api import TimeoutError as NothingError

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
BETWEEN_MS = 150
"""Between two clicks of somebody who is angry."""
LOOKS_MS = 1_500
"""How long a visitor looks at the page first: what he comes with has been sent by then."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>A shop</title></head>
<body data-attune-page="product">
<h1>A shop</h1><button id="buy" style="padding: 2rem">Buy</button>
<script src="{collector}attune.js"></script>
<script>
  // When each click was made, when its beacon went, and the first frames after the box came and after it had moved in.
  const clicks = [], beacons = [];
  const frame = (then) => requestAnimationFrame(() => {{
    const {{ port1, port2 }} = new MessageChannel();
    port1.onmessage = () => then(performance.now());
    port2.postMessage(0); // once that frame has been painted
  }});
  addEventListener("click", ({{ timeStamp }}) => clicks.push(timeStamp), true);
  const send = navigator.sendBeacon.bind(navigator);
  navigator.sendBeacon = (...given) => beacons.push(performance.now()) && send(...given);
  const observer = new MutationObserver(() => {{
    const box = document.querySelector("[data-attune-box=help_chat]");
    if (!box) return;
    observer.disconnect();
    const told = {{ click: clicks[2], clicks: clicks.length, beacon: beacons.find((at) => at >= clicks[2]) }};
    frame((seen) => {{
      const moved = Promise.all(box.getAnimations().map((one) => one.finished));
      moved.then(() => frame((still) => (window.told = {{ ...told, seen, still }})));
    }});
  }});
  observer.observe(document.body, {{ childList: true }});
  const who = new URLSearchParams(location.search);
  attune.start({{
    collector: "{collector}", key: "{key}", session: who.get("session"), user: who.get("user"),
    gateway: "{gateway}", token: () => fetch("/token" + location.search).then((answer) => answer.text()),
  }});
</script></body></html>
"""


class Place(NamedTuple):
    """Where the demo is, with a slash at the end of each address, and whose the collector's key is."""

    gateway: str
    collector: str
    key: str
    tenant: str


class Seen(NamedTuple):
    """Seconds from the click that completed the trouble: to its beacon, the box's first frame, the box at rest."""

    beacon: float
    box: float
    rest: float


@contextmanager
def shop() -> Iterator[tuple[str, Callable[[Place], None]]]:
    """Serve the page; gives its origin, and what to call with the place of the demo once that is known."""
    place: list[Place] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, body = "text/html", PAGE.format(**place[0]._asdict())
            if self.path.startswith("/token"):
                asked = {name: value for name, (value, *_) in parse_qs(urlsplit(self.path).query).items()}
                query = urlencode({"role": "client", "tenant": place[0].tenant, **asked})
                answer = httpx.get(f"{place[0].gateway}demo/token?{query}", trust_env=False).raise_for_status()
                kind, body = "text/plain", answer.text
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", place.append
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def chromium() -> Iterator[Browser | None]:
    """Run the browser that is installed here; None if there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        yield None
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def visit(browser: Browser, origin: str, visitors: Sequence[tuple[str, str]], wait_s: float) -> list[Seen | str]:
    """Open the page for some new visitors (session, user), who click three times in anger, one after another.

    Returns of each what was seen, or what came instead within the time to wait for it.
    """
    visits = [
        _Visit(browser, f"{origin}/?{urlencode({'session': session, 'user': user})}") for session, user in visitors
    ]
    visits[-1].page.wait_for_timeout(LOOKS_MS)
    for one in visits:
        one.rage()
    told = [one.told(wait_s) for one in visits]
    for one in visits:
        one.page.context.close()
    return told


class _Visit:
    """A page of a new visitor, and what the browser complains about in it."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.page = browser.new_context(viewport={"width": 900, "height": 600}).new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.goto(url)

    def rage(self) -> None:
        for number in range(3):
            if number:
                self.page.wait_for_timeout(BETWEEN_MS)
            self.page.click("#buy", position={"x": 20, "y": 20}, force=True)

    def told(self, wait_s: float) -> Seen | str:
        try:
            self.page.wait_for_function("window.told", timeout=1_000 * wait_s)
        except NothingError:
            return "; ".join(self.complaints) or "nothing came"
        told: dict[str, Any] = self.page.evaluate("told")
        since = [(told[name] - told["click"]) / 1_000 for name in ("beacon", "seen", "still") if told.get(name)]
        return Seen(*since) if len(since) == len(Seen._fields) else "the click did not go with a beacon"
