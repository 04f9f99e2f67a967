"""Logs run through decoder, windows and diagnosis, and what the reference says of them."""

import pickle
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from operators import records
from operators.anomalies.detector import Detector
from operators.config import ScoreConfig, WindowConfig
from operators.decode import BatchDecoder
from operators.emotions.diagnosis import Diagnosis, Noticed
from operators.emotions.roles import sorters_of
from operators.emotions.rules import Rules, read_rules
from operators.engagement import Scorer
from operators.interventions.cues import Answer, Cue, Felt, Seen
from operators.window import Shard
from schemas.inbound import AnyEvent
from schemas.outbound import Emotion
from tests import events
from tests.model import LogRecord
from tests.model_emotions import felt_in
from tests.running import ANOMALIES, raw_batches

RULES = read_rules()
WINDOW = WindowConfig()
DECODER = msgspec.json.Decoder(AnyEvent)
START = 1_700_000_000_000


def cues_of(
    log: Sequence[LogRecord], cuts: Iterable[int] = (), shards: int = 1, restarts: Iterable[int] = ()
) -> list[list[Cue]]:
    """Run a log through decoder, windows and diagnosis; before each batch named in ``restarts`` all is restored.

    If any is, there are snapshots before all of them: what one keeps for the next must not be old.
    Return the cues of each shard in the order in which they were told.
    """
    scorer, detector = Scorer(ScoreConfig()), Detector(ANOMALIES, ScoreConfig())
    decoder = BatchDecoder(shards, WINDOW, sorters_of(RULES))
    held = [(Shard(WINDOW, scorer, detector), Diagnosis(RULES, WINDOW)) for _ in range(shards)]
    again = set(restarts)
    cues: list[list[Cue]] = [[] for _ in range(shards)]
    for number, batch in enumerate(raw_batches(log, cuts)):
        packed = [(shard.snapshot(), diagnosis.snapshot(shards)) for shard, diagnosis in held] if again else []
        if number in again:
            decoder = BatchDecoder(shards, WINDOW, sorters_of(RULES))
            held = [
                (
                    Shard.restore(WINDOW, scorer, windows, detector=detector),
                    Diagnosis.restore(RULES, WINDOW, emotions, shards),
                )
                for windows, emotions in packed
            ]
        for which, sent in decoder(batch).chunks:
            chunk = pickle.loads(pickle.dumps(sent)) if number in again else sent  # noqa: S301  our own bytes
            shard, diagnosis = held[which]
            judged = shard.feed(chunk)
            closed = list(shard.close())
            anomalies = [found for closing in closed for found in records.anomalies(closing)]
            cues[which] += diagnosis.take(Noticed(chunk, judged.accepted(len(chunk)), closed, anomalies))
    return cues


def by_session(cues: Iterable[Iterable[Cue]]) -> dict[tuple[str, str], list[Cue]]:
    """Return the cues of each session in order, without stream time, which tells where a batch was cut."""
    out: dict[tuple[str, str], list[Cue]] = {}
    for cue in (cue for of_shard in cues for cue in of_shard):
        out.setdefault(session_of(cue), []).append(cue._replace(stream_time=0))
    return out


def session_of(cue: Cue) -> tuple[str, str]:
    match cue:
        case Felt():
            return cue.emotions[0].tenant_id, cue.emotions[0].session_id
        case Seen():
            return cue.anomaly.tenant_id, cue.anomaly.session_id
        case Answer():
            return cue.event.tenant_id, cue.event.session_id
        case _:
            return cue.tenant_id, cue.session_id


def emotions_of(cues: Iterable[Iterable[Cue]]) -> list[Emotion]:
    found = [e for of_shard in cues for cue in of_shard if isinstance(cue, Felt) for e in cue.emotions]
    return sorted(found, key=lambda e: (e.session_id, e.user_id, e.ts, e.rule, e.id))


def brief(found: Emotion) -> tuple[Any, ...]:
    confidence = round(found.confidence, 9)
    return found.session_id, found.user_id, found.ts, found.rule, found.emotion, confidence, tuple(found.evidence)


def expected(log: Sequence[LogRecord]) -> list[tuple[Any, ...]]:
    decoded = [DECODER.decode(record.raw or b"") for record in log]
    found = [
        (user.session_id, user.user_id, f.ts, f.rule, f.emotion, round(f.confidence, 9), f.evidence)
        for user, felt in felt_in(decoded).items()
        for f in felt
    ]
    return sorted(found)


def said(kind: str, after_ms: int, *, late_ms: int = 0, user: str = "u1", **fields: Any) -> LogRecord:
    """Return a record, so long after the start, of an event that happened so long before it."""
    ts = START + after_ms
    raw = events.event(kind, ts - late_ms, user, event_id=f"{kind} {user} {after_ms}", **fields)
    return events.record(raw, ts, "t", after_ms)


def followed(log: Sequence[LogRecord], at_once: int = 1, rules: Rules = RULES) -> Diagnosis:
    """Return the diagnosis that has taken in a log, some records at once; time does not run on at its end."""
    scorer = Scorer(ScoreConfig())
    decoder = BatchDecoder(1, WINDOW, sorters_of(rules))
    shard, diagnosis = Shard(WINDOW, scorer, Detector(ANOMALIES, ScoreConfig())), Diagnosis(rules, WINDOW)
    for batch in raw_batches(log, range(0, len(log), at_once), ends=False):
        for _, chunk in decoder(batch).chunks:
            judged = shard.feed(chunk)
            diagnosis.take(Noticed(chunk, judged.accepted(len(chunk)), list(shard.close()), []))
    return diagnosis


PAGES = st.sampled_from(["pricing", "product", "cart", "checkout", "help", "home"])
URLS = st.sampled_from(["/a", "/a?x=1", "/b", "/c"])
SMALL = st.sampled_from([0, 10, 25, 40])
KINDS: dict[str, Any] = {
    "telemetry.page_view": {"page": PAGES, "url": URLS},
    "telemetry.click": {
        "element": st.sampled_from(["buy", "Reviews", "x"]), "x": SMALL, "y": SMALL, "page": PAGES,
        "effect": st.sampled_from([True, False, None]), "error": st.sampled_from([None, None, None, True]),
    },
    "telemetry.hover": {
        "element": st.sampled_from(["box", "Price tag"]), "page": PAGES,
        "duration_ms": st.sampled_from([0, 499, 500, 2500, 2501, 3000, 3001, 3999, 4000]),
    },
    "telemetry.scroll": {
        "velocity": st.sampled_from([10, 3000, 3001, -3001]), "direction": st.sampled_from(["up", "down"]),
        "page": PAGES,
    },
    "telemetry.pointer": {
        "velocity": st.sampled_from([2000, 2001]), "deceleration": st.sampled_from([1500, 1501, 5001]), "page": PAGES,
    },
    "telemetry.exit_intent": {"edge": st.sampled_from(["top", "side", "back"]), "page": PAGES},
    "telemetry.field": {
        "field": st.sampled_from(["Card-number", "cvc", "name"]), "filled": st.booleans(), "page": PAGES,
        "duration_ms": st.sampled_from([4999, 5000]),
    },
    "telemetry.cart": {"action": st.sampled_from(["add", "remove", "view"])},
    "telemetry.checkout": {"step": st.sampled_from(["start", "payment", "payment", "fail", "complete"])},
    "telemetry.search": {"results": st.sampled_from([0, 0, 1])},
    "emotion.observed": {"emotion": st.sampled_from(["confusion", "joy"])},
    "chat.message": {},
    "presence.join": {},
    "presence.leave": {},
}  # fmt: skip
RARE = ["session.ended"]
STEPS = st.sampled_from([0, 1, 100, 300, 999, 1000, 1001, 3000, 5000, 7000, 10_000, 29_999, 30_000, 60_000, 61_000])
LEAPS = st.sampled_from([600_000, 1_799_999, 1_800_000])


@st.composite
def logs(draw: st.DrawFn, steps: st.SearchStrategy[int] = STEPS) -> list[LogRecord]:
    """Draw a log in order of time: a few users of a few sessions who do much of the same, ``steps`` (ms) apart."""
    favourites = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4))
    names = st.sampled_from(favourites + favourites + [*KINDS][:2])
    ts, log = START, []
    for number in range(draw(st.integers(1, 40))):
        ts += draw(LEAPS) if draw(st.integers(0, 30)) == 30 else draw(steps)
        kind = RARE[0] if draw(st.integers(0, 40)) == 40 else draw(names)
        fields = {name: draw(values) for name, values in KINDS.get(kind, {}).items()}
        fields = {name: value for name, value in fields.items() if value is not None}
        user, session = draw(st.sampled_from(["u1", "u1", "u2"])), draw(st.sampled_from(["s1", "s1", "s2"]))
        raw = events.event(kind, ts, f"{session}{user}", event_id=f"e{number}", session=session, **fields)
        log.append(events.record(raw, ts, "t", number))
    return log
