"""Puts logging back as it was: what a test configures must not change what the others see.

Every test, not those that say so: each command that runs within a test configures logging, onto a stream that is closed
after it.
"""

import logging
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Restore structlog's and the root logger's configuration."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)
