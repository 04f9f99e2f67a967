"""A real Kafka for the tests: one broker (KRaft) on this machine, from jars that Maven fetches once.

``kafka`` gives the bootstrap servers of a broker that all tests share (``ATTUNE_TEST_KAFKA`` names one that runs
already); ``kafka_broker`` is a broker of the test's own, to be stopped, killed and started again; ``kafka_secured`` is
one that asks for TLS, a password and rights. Without Java or Maven the tests are skipped, or fail with
``ATTUNE_TEST_REQUIRE_KAFKA=1``.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tests.kafka_secured import LISTENERS, Secured, broker_settings, fill, make_certificates

HERE = Path(__file__).parent / "kafka"
LIBS = HERE / "target" / "libs"
DEADLINE_S = 60.0
JVM = ["-Xmx512m", "-XX:+UseSerialGC", "-Xshare:auto"]
QUICK_START = "-XX:TieredStopAtLevel=1"
"""Code is compiled once and not well: most brokers of the tests live for seconds."""


def wait_until(holds: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition; fail the test when it does not come about."""
    end = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"waited {deadline_s:g} s in vain: {what}")
        time.sleep(0.02)


class Broker:
    """A broker of its own in ``folder``; its address and its data outlive `stop` and `kill`.

    ``address`` is open to everybody. ``listeners`` are further ones, security protocol by name; where they listen is in
    ``addresses``, and what they need beside it in ``settings``. A ``lasting`` one runs as it would for years.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        *,
        lasting: bool = False,
    ) -> None:
        self._folder = folder
        self._lasting = lasting
        more = dict(listeners or {})
        port, controller, *ports = _free_ports(2 + len(more))
        self.address = f"127.0.0.1:{port}"
        self.addresses = {name: f"127.0.0.1:{number}" for name, number in zip(more, ports, strict=True)}
        heard = ",".join(f"{name}://{where}" for name, where in {"PLAINTEXT": self.address, **self.addresses}.items())
        self._port = port
        self._log = folder / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"{heard},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": heard,
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}"
                for name, protocol in {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **more}.items()
            ),
            "log.dirs": str(folder / "data"),
            "auto.create.topics.enable": "false",
            # A broker that was killed may only come back when its last session has ended.
            "broker.heartbeat.interval.ms": "250",
            "broker.session.timeout.ms": "1500",
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "num.network.threads": "1",
            "num.io.threads": "2",
            **(settings or {}),
        }
        self._properties = folder / "server.properties"
        self._properties.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        cluster = uuid.uuid4().hex[:22]
        done = subprocess.run(
            [*_java(folder), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties)],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_java(self._folder, lasting=self._lasting), "kafka.Kafka", str(self._properties)],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + DEADLINE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                pytest.fail("Kafka did not start:\n" + self._log.read_text()[-3000:])
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Stop it as a power cut does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Make it silent without closing a connection."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(how)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), 0.2).close()
            AdminClient({"bootstrap.servers": self.address, "log_level": 0}).list_topics(timeout=2)
        except (OSError, KafkaException):
            return False
        return True


def make_topics(address: str, *names: str, partitions: int = 1, stamp: str = "LogAppendTime") -> None:
    """Create topics and wait until every one is known."""
    admin = AdminClient({"bootstrap.servers": address})
    new = [NewTopic(n, num_partitions=partitions, config={"message.timestamp.type": stamp}) for n in names]
    for answer in admin.create_topics(new, request_timeout=30).values():
        answer.result()
    wait_until(lambda: set(names) <= set(admin.list_topics(timeout=10).topics), "topics to appear")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the bootstrap servers of a broker that all tests share: use topic names of your own (`topic`)."""
    if address := os.environ.get("ATTUNE_TEST_KAFKA"):
        yield address
        return
    require()
    broker = Broker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    try:
        yield broker.address
    finally:
        broker.kill()


@pytest.fixture
def kafka_broker(tmp_path: Path) -> Iterator[Broker]:
    """Give a running broker of the test's own."""
    require()
    broker = Broker(tmp_path)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


@pytest.fixture(scope="session")
def kafka_secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Give a broker that speaks TLS, asks for a password and grants rights; its topics are not to be added to."""
    require()
    folder = tmp_path_factory.mktemp("kafka-secured")
    certificates = make_certificates(folder)
    broker = Broker(folder, broker_settings(certificates), LISTENERS)
    broker.start()
    try:
        yield fill(broker.address, broker.addresses, certificates)
    finally:
        broker.kill()


@pytest.fixture
def topic() -> str:
    """Give a topic name that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}"


def _java(folder: Path, *, lasting: bool = False) -> list[str]:
    # A broker that is killed leaves the libraries that it unpacked: they go with its folder.
    quick = [] if lasting else [QUICK_START]
    return ["java", *JVM, *quick, f"-Djava.io.tmpdir={folder}", "-cp", f"{LIBS}/*"]


def require() -> None:
    """Fetch the broker if it is not there; skip without the means to, or fail where it is required."""
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if missing:
        why = f"needs {' and '.join(missing)} to run a Kafka broker"
        if os.environ.get("ATTUNE_TEST_REQUIRE_KAFKA") == "1":
            pytest.fail(why)
        pytest.skip(why)
    with (HERE / "pom.xml").open("rb") as pom:
        # The processes of one run ask at the same time: the first fetches, the others wait for it.
        fcntl.flock(pom, fcntl.LOCK_EX)
        _fetch(hashlib.sha256(pom.read()).hexdigest())


def _fetch(wanted: str) -> None:
    stamp = LIBS / "pom.sha256"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(LIBS, ignore_errors=True)
    done = subprocess.run(
        ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail("Maven could not fetch the Kafka broker:\n" + done.stdout[-3000:])
    stamp.write_text(wanted)


def _free_ports(count: int) -> list[int]:
    """Return ports below those that a system gives to clients: none of them gets a broker's port while it is down."""
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            sockets.append(socket.socket())
            try:
                # Not by `random`, which has the same seed in every process of a run.
                sockets[-1].bind(("127.0.0.1", 20_000 + secrets.randbelow(12_000)))
            except OSError:
                sockets.pop().close()
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
