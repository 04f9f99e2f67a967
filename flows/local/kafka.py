"""A Kafka that needs nothing installed: librdkafka's own mock cluster, in a process of its own.

Made for the demo. It holds about 5 MB and 100,000 records a partition and then drops the oldest without a word, keeps
nothing when it ends, stamps no LogAppendTime, and knows neither rights nor topic settings: not for a test that
nothing is lost.
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, cast

from schemas.errors import TransientError

START_S = 20.0


@contextmanager
def mock_kafka(topics: Sequence[str], partitions: int) -> Iterator[str]:
    """Run a cluster of one broker with these topics; give its address, ``127.0.0.1:port``.

    >>> from confluent_kafka import Consumer
    >>> with mock_kafka(["a"], 3) as address:
    ...     cluster = Consumer({"bootstrap.servers": address, "group.id": "g"}).list_topics("a", timeout=10)
    >>> len(cluster.topics["a"].partitions)
    3
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.local.kafka", str(partitions), *topics],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the flow: the broker goes last.
    )
    # Read and closed by these names: Popen types its pipes as optional.
    out, hold = cast("IO[str]", process.stdout), cast("IO[str]", process.stdin)
    try:
        address = out.readline().strip()
        if not address:
            raise TransientError(f"the embedded broker did not start (exit code {process.wait(START_S)})")
        yield address
    finally:
        hold.close()  # It ends when its input does: also when this process is killed.
        out.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def serve(topics: Sequence[str], partitions: int) -> None:
    """Run the cluster, print its address, and wait until standard input ends."""
    import confluent_kafka
    from confluent_kafka import cimpl

    # Python's client can start a mock cluster but not create a topic with a number of partitions on it; librdkafka,
    # which is loaded with it, can.
    library = ctypes.CDLL(cimpl.__file__)
    library.rd_kafka_conf_new.restype = ctypes.c_void_p
    library.rd_kafka_conf_set.argtypes = [ctypes.c_void_p, *[ctypes.c_char_p] * 3, ctypes.c_size_t]
    library.rd_kafka_new.restype = ctypes.c_void_p
    library.rd_kafka_new.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    library.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_new.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    library.rd_kafka_mock_cluster_bootstraps.argtypes = [ctypes.c_void_p]
    library.rd_kafka_mock_topic_create.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    producer = 0
    failure = ctypes.create_string_buffer(512)
    conf = library.rd_kafka_conf_new()
    library.rd_kafka_conf_set(conf, b"log_level", b"2", failure, len(failure))
    client = library.rd_kafka_new(producer, conf, failure, len(failure))
    if not client:
        raise SystemExit(f"librdkafka {confluent_kafka.libversion()[0]}: {failure.value.decode()}")
    cluster = library.rd_kafka_mock_cluster_new(client, 1)
    for topic in topics:
        library.rd_kafka_mock_topic_create(cluster, topic.encode(), partitions, 1)
    sys.stdout.write(library.rd_kafka_mock_cluster_bootstraps(cluster).decode() + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[2:], int(sys.argv[1]))
