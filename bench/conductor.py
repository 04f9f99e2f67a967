"""A conductor in a process of its own, as a data engineer starts it: ``attune run conductor``."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.broker import Topics
from schemas.registry import INBOUND_TOPICS, OUTBOUND_TOPICS

ROOT = Path(__file__).parents[1]
START_S = 60.0
STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Conductor:
    """A conductor that runs; its gateway listens on ``port`` of this machine."""

    port: int
    _process: "subprocess.Popen[bytes]"

    def cpu_s(self) -> float:
        """Return the processor time that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(topics: Topics, folder: Path, arguments: tuple[str, ...] = (), settings: str = "") -> Iterator[Conductor]:
    """Run a conductor over these topics, with the sinks Kafka and gateway and a recovery store; it ends in order.

    Its files lie in ``folder``. ``settings`` are tables of its own; what is not said here is as by default.
    """
    names = "\n".join(f'"{topic}" = {json.dumps(topics.name(topic))}' for topic in (*INBOUND_TOPICS, *OUTBOUND_TOPICS))
    file = folder / "attune.toml"
    file.write_text(
        f'[kafka]\nbootstrap_servers = "{topics.address}"\ngroup_id = "{topics.prefix}"\nstart = "earliest"\n'
        f"[kafka.topics]\n{names}\n"
        f"[gateway]\nport = 0\n[metrics]\nenabled = false\n{settings}",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "flows.cli", "run", "conductor", "--config", str(file)]
    command += ["--recovery", str(folder / "recovery"), "--sink", "kafka", "--sink", "gateway", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
    log = folder / "conductor.log"
    with log.open("wb") as told:
        process = subprocess.Popen(
            command, env={**environment, "PYTHONPATH": str(ROOT)}, cwd=folder, stdout=told, stderr=told
        )
    try:
        yield Conductor(_port(process, log), process)
        assert process.poll() is None, f"the conductor ended by itself:\n{log.read_text(encoding='utf-8')[-3000:]}"
        process.terminate()
        code = process.wait(STOP_S)
        assert code == 0, f"the conductor ended with {code}:\n{log.read_text(encoding='utf-8')[-3000:]}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    """Wait until the gateway listens; return its port."""
    deadline = time.monotonic() + START_S
    while True:
        said = log.read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"^dashboard +http://127\.0\.0\.1:(\d+)/", said, re.MULTILINE):
            return int(found.group(1))
        assert process.poll() is None, f"the conductor did not start:\n{said[-3000:]}"
        assert time.monotonic() < deadline, f"the conductor did not start within {START_S:g} s:\n{said[-3000:]}"
        time.sleep(0.05)
