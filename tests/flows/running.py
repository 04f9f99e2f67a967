"""What the tests of commands share: how one is run and what it is given."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from schemas.outbound import DeadLetter, Detail

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0

ENGAGEMENT = {
    "type": "engagement",
    "id": "t/s/0/engagement/60000",
    "tenant_id": "t",
    "session_id": "s",
    "ts": 60_000,
    "session_start": 0,
    "score": 0.9,
    "category": "VERY_HIGH",
    "signals": {
        "chat_per_min": 20,
        "reactions_per_min": 10,
        "connected_users": 4,
        "active_users": 4,
        "active_ratio": 1.0,
        "poll_participation": 1.0,
        "leave_rate": 0.0,
    },
    "contributions": {"chat": 0.3, "poll": 0.25, "active": 0.25, "reactions": 0.1, "leaves": 0.0},
}


def environment(extra: dict[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
    return clean | {"PYTHONPATH": str(ROOT), "COLUMNS": "120", "NO_COLOR": "1"} | extra


def start(arguments: list[str], cwd: Path, **extra: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.Popen(
        command, cwd=cwd, env=environment(extra), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def attune(*arguments: str, cwd: Path, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=cwd,
        env=environment(extra),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def letter(letter_id: str, **fields: Any) -> DeadLetter:
    given: dict[str, Any] = {
        "reason": "refused_by_database",
        "topic": "attune.engagement.v1",
        "payload": json.dumps(ENGAGEMENT),
    }
    return DeadLetter(
        id=letter_id, tenant_id="t", session_id="s", ts=1, detail=Detail("", "", ""), partition=0, offset=0,
        **(given | fields),
    )  # fmt: skip
