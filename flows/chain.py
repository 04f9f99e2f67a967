"""From what a user did to what was done about it: evidence, emotion, mapping, governor, content, outcomes, effect.

Read from the folder that a replay has written; what is found is data, ``flows.commands.explain`` prints it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from operators.interventions.rules import Rules
from schemas.errors import ConfigError
from schemas.outbound import Anomaly, AnyRecord, Emotion, Intervention, InterventionEffect, Outcome, Record
from schemas.registry import OUTBOUND, type_of

R = TypeVar("R", bound=Record)

Step = Emotion | Anomaly | Intervention | Outcome | InterventionEffect


class Chain(msgspec.Struct, frozen=True):
    """All that belongs to one intervention. ``revisions``: its records, the newest last, at least one.

    ``trigger`` is missing where the folder has no record of it, ``row`` where the mapping that holds now has none.
    """

    revisions: list[Intervention]
    trigger: Emotion | Anomaly | None
    row: str | None
    outcomes: list[Outcome]
    effects: list[InterventionEffect]


def chain(folder: Path, found: Intervention, rules: Rules) -> Chain:
    """Return what belongs to an intervention of a replay's folder, explained by the mapping that holds now."""
    kind = Emotion if found.trigger.kind == "emotion" else Anomaly
    triggers: list[Emotion | Anomaly] = list(_holding(folder, kind, found.trigger.id))
    effects = [each for each in _holding(folder, InterventionEffect, found.id) if each.intervention_id == found.id]
    revisions = [each for each in _holding(folder, Intervention, found.id) if each.id == found.id]
    return Chain(
        sorted(revisions, key=lambda each: each.revision),
        next((each for each in triggers if each.id == found.trigger.id), None),
        mapping_row(found, rules),
        [each for each in _holding(folder, Outcome, found.id) if each.intervention_id == found.id],
        sorted(effects, key=lambda each: each.revision),
    )


def mapping_row(found: Intervention, rules: Rules) -> str | None:
    """Return the row of the mapping that an intervention came from, in words."""
    name = found.intervention
    table = rules.emotions if found.trigger.kind == "emotion" else rules.anomalies
    rows = table.get(found.trigger.name, ())
    for place, row in enumerate(rows, start=1):
        if row.intervention == name:
            cooldown = rules.cooldowns[name]
            again = "once a session" if cooldown is None else f"again after {cooldown / 1000:g} s"
            needs = f"from {row.least:g}" if row.confidence is None else f"with {row.confidence:g}"
            once = ", once an episode" if row.once else ""
            which = f"choice {place} of {len(rows)} for {found.trigger.name}"
            return f"{which}: {name}, {needs}, {again}{once}, {row.priority}"
    return None


def story(folder: Path, tenant: str, session: str, user: str | None) -> list[Step]:
    """Return what was felt or seen, done and not done in a session (None: by anybody), in order of time.

    Raises:
        ConfigError: the folder is no replay's, or holds nothing of it.
    """
    kinds: tuple[type[Step], ...] = (Anomaly, Emotion, Intervention, Outcome, InterventionEffect)
    steps: list[Step] = []
    for kind in kinds:
        steps += (each for each in _holding(folder, kind, session) if _is_of(each, tenant, session, user))
    if not steps:
        whose = f"{tenant}/{session}" if user is None else f"{user} in {tenant}/{session}"
        raise ConfigError(f"{folder}: nothing was felt, seen or done about {whose}")
    return sorted(steps, key=lambda each: (each.ts, kinds.index(type(each)), each.id))


def _is_of(record: Record, tenant: str, session: str, user: str | None) -> bool:
    where = (record.tenant_id, record.session_id) == (tenant, session)
    return where and (user is None or getattr(record, "user_id", None) == user)


def _holding(folder: Path, kind: type[R], text: str) -> Iterator[R]:
    """Yield the records of a kind that hold a text. Its encoding is looked for first: decoding all takes long."""
    file = folder / f"{OUTBOUND[type_of(kind)].topic}.jsonl"
    if not file.is_file():
        raise ConfigError(f"{folder}: expected a replay's folder, with {file.name}")
    needle = msgspec.json.encode(text)[1:-1]
    decode = msgspec.json.Decoder(AnyRecord).decode
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if needle in line:
                try:
                    record: Any = decode(line)
                except msgspec.DecodeError as error:
                    raise ConfigError(f"{file}:{number}: not an outbound record: {error}") from error
                if isinstance(record, kind):
                    yield record


def lines_of(found: Chain) -> Iterator[tuple[str, str]]:
    """Yield the chain step by step: what, and what it was."""
    last, trigger = found.revisions[-1], found.trigger
    if isinstance(trigger, Emotion):
        yield "evidence", ", ".join(trigger.evidence) or "none"
        yield "rule", trigger.rule
        yield "emotion", f"{trigger.emotion}, confidence {trigger.confidence:g}, of {trigger.user_id}"
    elif trigger is not None:
        seen = f"{trigger.current:.3f} where {trigger.expected:.3f} was expected"
        yield "anomaly", f"{trigger.anomaly_type}, {trigger.severity}: {seen}"
    else:
        yield last.trigger.kind, f"{last.trigger.name}, {last.trigger.id}: no record of it here"
    yield "mapping", found.row or "not in the mapping that holds now"
    for each in found.revisions:
        reason = f" ({each.reason})" if each.reason else ""
        by = f", by {each.by}" if each.by else ""
        yield "governor", f"{each.status}{reason}{by}: {each.why or 'no reason was recorded'}"
    content = next((each.content for each in reversed(found.revisions) if each.content), None)
    for name, value in (content or {}).items():
        yield "content", f"{name}: {_shown(value)}"
    for outcome in found.outcomes:
        yield "outcome", f"{outcome.outcome}, {(outcome.ts - last.ts) / 1000:g} s after"
    for effect in found.effects:
        told = "converted" if effect.converted else f"{effect.score_after - effect.score_before:+.3f} in 60 s"
        held_out = ", held out: nothing was shown" if effect.holdout else ""
        scores = f"score {effect.score_before:.3f}, then {effect.score_after:.3f}"
        yield "effect", f"{scores}: {told}, reward {effect.reward:.2f}{held_out}"
    if not found.effects and (last.status == "fired" or last.reason == "holdout"):
        yield "effect", "none: the session was over within 60 s, or they are not over yet"


def line_of(step: Step) -> str:
    """Return one step of a session's story in a line, without its time."""
    match step:
        case Emotion():
            return f"felt     {step.emotion} {step.confidence:.2f} ({step.rule}) by {step.user_id}"
        case Anomaly():
            return f"seen     {step.anomaly_type} {step.severity} {step.state}"
        case Intervention(status="fired"):
            return f"done     {step.intervention} for {step.recipient}: {step.why}  {step.id}"
        case Intervention():
            reason = step.reason or step.status
            return f"not done {step.intervention} for {step.recipient}: {step.status}, {reason}: {step.why}  {step.id}"
        case Outcome():
            return f"then     {step.intervention} {step.outcome} by {step.user_id}"
        case InterventionEffect():
            moved = f"score {step.score_before:.3f} to {step.score_after:.3f}, reward {step.reward:.2f}"
            return f"effect   {step.intervention}: {moved}{' (held out)' if step.holdout else ''}"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
