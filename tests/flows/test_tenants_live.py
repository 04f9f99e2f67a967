"""A running flow goes by tenants.toml as it is now, interventions and chat alike."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from bytewax.testing import TestingSink, TestingSource, run_main

from flows.conductor import build
from flows.settings import load
from flows.settings.convert import conductor_config
from flows.tenants import TenantsWatcher
from schemas.batches import RawBatch, Records
from schemas.outbound import AnyRecord, Decision, Intervention
from tests.events import batches, log

MINUTE = 60_000


def moment(at: int) -> list[bytes]:
    """Return an observed emotion of another visitor, and an answer of a chat agent."""
    about = {"tenant_id": "acme", "session_id": f"s{at}", "user_id": f"u{at}", "ts": at * MINUTE}
    emotion = {"type": "emotion.observed", "event_id": "e", "emotion": "confusion", "confidence": 0.85}
    answer = {
        "type": "chat.answer", "event_id": "a", "conversation_id": f"c{at}", "agent_id": "bot", "retrieval": [0.5],
        "question": "How do I reset the password of my account?", "answer": "Perhaps in the settings.",
        "self_assessment": 0.2,
    }  # fmt: skip
    return [msgspec.json.encode(about | each) for each in (emotion, answer)]


def test_a_change_holds_for_what_comes_after_it_and_a_faulty_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "tenants.toml"
    file.write_text('[tenants.acme.interventions]\nmode = "MANUAL"\n', encoding="utf-8")
    watcher = TenantsWatcher(file, None)
    config = conductor_config(load(None, {}), watcher.current)
    changes = {
        1: '[tenants.acme.chat]\nmode = "strict"\n',
        2: '[tenants.acme.chat]\nmode = "lenient"\n[tenants.acme.interventions]\nenabled = "perhaps"\n',
        3: "[tenants.acme.interventions]\nenabled = false\n",
    }

    def source() -> Iterator[RawBatch]:
        whole = batches(log([raw for at in range(4) for raw in moment(at)]), [2])
        for at, batch in enumerate(whole):
            if at in changes:
                file.write_text(changes[at], encoding="utf-8")
                assert watcher.look() == (at != 2)
            yield batch

    out: list[tuple[str, Records]] = []
    run_main(build(config, TestingSource(source()), {"out": TestingSink(out)}))
    decode = msgspec.json.Decoder(AnyRecord).decode
    told = sorted((decode(raw) for _, batch in out for raw in batch.payloads), key=lambda record: record.ts)
    statuses = [(each.status, each.reason) for each in told if isinstance(each, Intervention) and not each.revision]
    assert statuses == [("pending", "approval"), ("fired", None), ("fired", None), ("suppressed", "disabled")]
    actions = [each.action for each in told if isinstance(each, Decision)]
    assert actions[1] == actions[2] == "immediate_escalation"
    assert actions[0] == actions[3] != "immediate_escalation"
