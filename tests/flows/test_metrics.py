"""The metrics endpoint: answers, counts what all threads count, and lets go of its port."""

import threading
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client import REGISTRY, Counter

from flows import metrics
from schemas.errors import ConfigError


def test_all_threads_of_the_process_are_counted_in_one_place() -> None:
    counter = Counter("attune_test_threads", "Counted by the test")

    def count() -> None:
        for _ in range(100):
            counter.inc()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server = metrics.serve("127.0.0.1", 0)
    try:
        with urlopen(server.url, timeout=10) as answer:  # noqa: S310 - our own address
            text = answer.read().decode()
    finally:
        server.close()
        REGISTRY.unregister(counter)
    assert "attune_test_threads_total 400.0" in text
    with pytest.raises(URLError):
        urlopen(server.url, timeout=10)  # noqa: S310 - our own address


def test_a_taken_address_says_what_to_set() -> None:
    server = metrics.serve("127.0.0.1", 0)
    try:
        with pytest.raises(ConfigError, match=r"is taken by another process; set metrics\.host and metrics\.port"):
            metrics.serve("127.0.0.1", server.port)
    finally:
        server.close()


def test_a_foreign_address_is_told() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:0 cannot be used"):
        metrics.serve("192.0.2.1", 0)
