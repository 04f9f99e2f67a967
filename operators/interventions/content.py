"""What an intervention shows: its texts with the trigger's values in them, and polls that don't repeat."""

import string
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from operators.interventions.reading import FOLDER, Tell, checked, fitting, load, table, tables
from operators.interventions.rules import Rules, collect_rules
from schemas.errors import ConfigError
from schemas.outbound import Anomaly, DetectorScores, Emotion, Signals

FILE: Final = "content.toml"
NOT_REPEATED: Final = 10
"""A session's last polls, which it does not see again so soon."""

Kind = Literal["emotion", "anomaly"]
Text = Annotated[str, Meta(min_length=1, max_length=1000)]
_TEXTS: Final = ("headline", "body", "call_to_action")
_EMOTION: Final = ("user_id", "emotion", "confidence", "rule")
_ANOMALY: Final = ("anomaly_type", "severity", "score", "current", "expected", "deviation")


class Poll(msgspec.Struct, frozen=True, kw_only=True):
    """A question to the audience, with the options to vote for."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    question: Text
    options: Annotated[tuple[Text, ...], Meta(min_length=2, max_length=20)]


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The content of an intervention after one trigger; its texts are templates."""

    to: Literal["user", "audience", "organiser"]
    shown_for_s: Annotated[float, Meta(gt=0, le=7 * 86_400)]
    headline: Text
    body: Text
    call_to_action: Text
    poll: bool = False


class _File(msgspec.Struct, frozen=True, kw_only=True):
    content: dict[str, Any]
    polls: list[Any] = []


def values_of(trigger: Emotion | Anomaly) -> dict[str, Any]:
    """Return what a template may name.

    >>> values_of(_SAMPLES["emotion"])["emotion"]
    'frustration'
    """
    if isinstance(trigger, Emotion):
        return {name: getattr(trigger, name) for name in _EMOTION}
    found = {name: getattr(trigger, name) for name in _ANOMALY}
    return found | {name: getattr(trigger.signals, name) for name in Signals.__struct_fields__}


@dataclass(frozen=True)
class Content:
    """All texts, by intervention and trigger, and the polls."""

    shown: Mapping[tuple[str, str], Shown]
    polls: tuple[Poll, ...]

    def of(self, intervention: str, name: str) -> Shown:
        """Return what an intervention shows after a trigger of this name."""
        return self.shown[intervention, name]

    def render(self, shown: Shown, trigger: Emotion | Anomaly, polled: int) -> dict[str, Any]:
        """Return what a client shows; ``polled`` is how many polls the session has had."""
        found: dict[str, Any] = {name: getattr(shown, name) for name in _TEXTS}
        if any("{" in text or "}" in text for text in found.values()):
            values = values_of(trigger)
            found = {name: text.format_map(values) for name, text in found.items()}
        found["to"] = shown.to
        if shown.poll:
            poll = self.poll(trigger.tenant_id, trigger.session_id, polled)
            found["poll"] = {"id": poll.id, "question": poll.question, "options": list(poll.options)}
        return found

    def poll(self, tenant: str, session: str, polled: int) -> Poll:
        """Return the next poll: all go round, and each session begins with another."""
        digest = blake2b(f"{tenant}\0{session}".encode(), digest_size=8).digest()
        return self.polls[(int.from_bytes(digest) + polled) % len(self.polls)]


def read_interventions(folder: Path = FOLDER, emotions: Collection[str] | None = None) -> tuple[Rules, Content]:
    """Read the mapping and the texts, which must fit each other. ``emotions`` are those that the rules find.

    Raises:
        ConfigError: a file can't be read or doesn't fit: all faults of both, each with the file and its key.
    """
    faults: list[str] = []
    rules = collect_rules(folder, emotions, faults.append)
    file = folder / FILE
    content = None if rules is None else _read(rules, file, lambda fault: faults.append(f"{file}: {fault}"))
    if faults or rules is None or content is None:
        raise ConfigError("\n".join(dict.fromkeys(faults)))  # a text that several triggers share is looked at for each
    return rules, content


def _read(rules: Rules, file: Path, tell: Tell) -> Content | None:
    tree = load(file, tell)
    found = None if tree is None else checked(_File, tree, "the file", tell)
    if found is None:
        return None
    polls = tuple(_polls(found.polls, tell))
    shown: dict[tuple[str, str], Shown] = {}
    triggers: dict[str, dict[str, Kind]] = {name: {} for name in rules.cooldowns}
    for intervention, kind, name in rules.triggers():
        triggers[intervention][name] = kind
    for intervention in sorted(found.content.keys() - triggers.keys()):
        _stranger(found.content[intervention], f"content.{intervention}", tell)
    for intervention, names in triggers.items():
        where = f"content.{intervention}"
        if intervention not in found.content:
            tell(f"{where}: missing: what does the intervention show?")
            continue
        entry, when, base = _entry(found.content[intervention], where, tell)
        for name in when:
            if name not in names:
                tell(f"{where}.when.{name}: the intervention does not answer to it; expected one of {', '.join(names)}")
                _changes(when, name, where, tell)
        for name, kind in names.items():
            changes = _changes(when, name, where, tell)
            for text in _TEXTS:
                here, template = (
                    (f"{where}.when.{name}", changes[text]) if text in changes else (where, entry.get(text))
                )
                if isinstance(template, str):
                    _template(template, kind, here, text, tell)
            if base is not None:
                shown[intervention, name] = msgspec.convert(entry | changes, Shown)
    if any(each.poll for each in shown.values()) and len(polls) <= NOT_REPEATED:
        tell(f"polls: expected at least {NOT_REPEATED + 1}, so that the last {NOT_REPEATED} are not repeated")
    return Content(shown, polls)


def _entry(found: object, where: str, tell: Tell) -> tuple[dict[str, Any], Mapping[str, Any], Shown | None]:
    """Return what an intervention shows, and apart from it what is different under ``when``; None if it has faults."""
    entry = dict(table(found, where, tell))
    when = table(entry.pop("when", {}), f"{where}.when", tell)
    return entry, when, checked(Shown, entry, where, tell)


def _stranger(found: object, where: str, tell: Tell) -> None:
    """Tell all that is wrong with the content of an intervention that is not there: perhaps its name is misspelt."""
    tell(f"{where}: there is no intervention of this name")
    _, when, _ = _entry(found, where, tell)
    for name in when:
        _changes(when, name, where, tell)


def _changes(when: Mapping[str, Any], name: str, where: str, tell: Tell) -> dict[str, Any]:
    """Return what is different after one trigger; nothing if it has faults."""
    where = f"{where}.when.{name}"
    changes = dict(table(when.get(name, {}), where, tell))
    return changes if fitting(Shown, changes, where, tell) else {}


def _polls(found: list[Any], tell: Tell) -> Iterator[Poll]:
    seen: set[str] = set()
    for at, each in enumerate(tables(found, "polls", tell)):
        poll = checked(Poll, each, f"polls[{at}]", tell)
        if poll is None:
            continue
        if poll.id in seen:
            tell(f'polls[{at}].id: "{poll.id}" is there already')
        seen.add(poll.id)
        yield poll


_ABOUT: Final[dict[str, Any]] = {"id": "x", "tenant_id": "x", "session_id": "x", "ts": 0}
_SAMPLES: Final[Mapping[Kind, Emotion | Anomaly]] = {
    "emotion": Emotion(**_ABOUT, user_id="x", emotion="frustration", confidence=0.5, rule="x", evidence=[]),
    "anomaly": Anomaly(
        **_ABOUT,
        session_start=0,
        anomaly_type="MASS_EXIT",
        severity="WARNING",
        state="raised",
        score=0.5,
        current=0.5,
        expected=0.5,
        deviation=0.0,
        detector=DetectorScores(0.5, 0.5, 0.5),
        signals=Signals(1, 1, 1, 1, 0.5, 0.5, 0.5),
    ),
}
"""One trigger of each kind, on which a template is tried."""


def _template(text: str, kind: Kind, where: str, key: str, tell: Tell) -> None:
    values = values_of(_SAMPLES[kind])
    try:
        named = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
        unknown = [name for name in named if name not in values]
        if unknown:
            tell(f"{where}.{key}: {{{unknown[0]}}} is nothing that an {kind} has; expected one of {', '.join(values)}")
        else:
            text.format_map(values)
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        tell(f"{where}.{key}: expected text with values such as {{{next(iter(values))}}}: {error}")
