"""The demo's table: on a narrow terminal columns go, names stay whole."""

import threading

import msgspec
import pytest
from rich.console import Console

from flows.commands.demo import _table
from flows.demo import Demo
from flows.watch import Watch
from schemas.batches import Records
from schemas.outbound import Contributions, Engagement, Signals


def watch() -> Watch:
    names = ("all-hands-1", "product-launch-5")
    signals = Signals(120, 200, 40, 38, 0.5, 0.9, 0.0)
    records = [
        Engagement(
            id=name,
            tenant_id="tenant-1",
            session_id=name,
            ts=5_000,
            session_start=0,
            score=0.9,
            category="VERY_HIGH",
            signals=signals,
            contributions=Contributions(0.3, 0.25, 0.25, 0.1, 0.0),
        )
        for name in names
    ]
    seen = Watch()
    payloads = [msgspec.json.encode(record) for record in records]
    seen.take(Records("engagement", list(names), ["tenant-1"] * 2, list(names), [5_000] * 2, payloads))
    return seen


@pytest.mark.parametrize("width, counts, bar", [(80, False, False), (95, True, False), (110, True, True)])
def test_what_matters_is_whole_at_any_width(width: int, counts: bool, bar: bool) -> None:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(_table(Demo((), watch(), threading.Event()), width))
    text = captured.get()
    for whole in ("tenant-1", "all-hands-1", "product-launch-5", "0.90", "VERY_HIGH"):
        assert whole in text
    assert "…" not in text
    assert ("active" in text, "█" in text) == (counts, bar)
