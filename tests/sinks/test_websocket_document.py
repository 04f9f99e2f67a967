"""What docs/websocket.md says is so."""

import re
import subprocess
import sys
from pathlib import Path

from schemas.batches import Records
from sinks.websocket.config import GatewayConfig
from sinks.websocket.connection import SPARE_CONNECTIONS
from sinks.websocket.envelope import CHANNEL_OF
from sinks.websocket.hub import SNAPSHOT_RECORDS_A_MESSAGE
from sinks.websocket.limits import KIB, MIB, Limits
from tests.fix_websocket import Running


def test_the_documented_client_works(running: Running, tmp_path: Path) -> None:
    document = Path(__file__).parents[2] / "docs" / "websocket.md"
    (example,) = re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    script = tmp_path / "client.py"
    script.write_text(example, encoding="utf-8")
    tick = b'{"type":"engagement","session_id":"s","score":0.5,"category":"MODERATE"}'
    running.gateway.publish(Records("engagement", ["1"], ["t"], ["s"], [1], [tick]))
    raised = b'{"type":"anomaly","session_id":"s","anomaly_type":"MASS_EXIT","state":"raised"}'
    running.gateway.publish(Records("anomaly", ["1"], ["t"], ["s"], [1], [raised]))
    with subprocess.Popen([sys.executable, script, running.url], stdout=subprocess.PIPE, text=True) as client:
        try:
            assert client.stdout is not None
            assert [client.stdout.readline() for _ in range(2)] == ["s: 0.50 MODERATE\n", "s: MASS_EXIT raised\n"]
        finally:
            client.kill()


def test_the_documented_limits_are_the_defaults() -> None:
    text = (Path(__file__).parents[2] / "docs" / "websocket.md").read_text(encoding="utf-8")
    limits, config = Limits(), GatewayConfig()
    for said in (
        f"{limits.clients:,}, and {SPARE_CONNECTIONS} more",
        f"{limits.messages_per_s:g} a second, {limits.messages_burst} at once",
        f"every {SNAPSHOT_RECORDS_A_MESSAGE} records of a snapshot",
        f"{limits.message_bytes // KIB} KiB, {limits.sessions} sessions",
        f"{limits.history_bytes // MIB} MiB in all; {limits.history_sessions:,} sessions and {limits.history_records}",
        f"more than {limits.queue_records:,} messages or {limits.queue_bytes // MIB} MiB wait",
        f"At most {limits.snapshot_records:,} records and {limits.snapshot_bytes // MIB} MiB",
        f"too many bad messages ({limits.faults})",
        f"over {limits.inbound_bytes_burst // KIB} KiB at once or {limits.inbound_bytes_per_s // KIB} KiB/s",
        f"not read for {config.stall_s:g} s",
        f"handshake | {config.handshake_timeout_s:g} s",
        f"cut off after {config.close_timeout_s:g} s",
    ):
        assert said in text.replace("\n", " "), said
    table = re.findall(r"^\| `(\w+)` \| ((?:`[\w.]+`(?:, )?)+) \|$", text, re.MULTILINE)
    told = {kind: channel for channel, kinds in table for kind in re.findall(r"`([\w.]+)`", kinds)}
    assert told == CHANNEL_OF
