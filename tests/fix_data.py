"""Recorded real traffic, where there is some: ``ATTUNE_TEST_DATA`` names a folder with the files.

``twitch.jsonl.gz``, ``irc.jsonl.gz`` and ``shop.jsonl.gz``: inbound events of the contract, one JSON object a line.
They are nobody's to pass on, so they are not part of the project; the tests that read them skip where they are absent.
"""

import os
from pathlib import Path

import pytest

FILES = ("twitch.jsonl.gz", "irc.jsonl.gz", "shop.jsonl.gz")


@pytest.fixture(scope="session")
def recorded() -> list[Path]:
    """Return the recorded logs."""
    named = os.environ.get("ATTUNE_TEST_DATA", "")
    files = [Path(named) / name for name in FILES]
    if not named or not all(file.is_file() for file in files):
        pytest.skip(f"optional: set ATTUNE_TEST_DATA to a folder with {', '.join(FILES)} to replay recorded traffic")
    return files
