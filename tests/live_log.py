"""A live event as a platform would record it: people come, talk, react, vote and go; for tests that want size."""

from random import Random

from tests.events import event, numbered, record
from tests.model import MINUTE, SECOND, LogRecord

MEAN_DELAY_MS = 120
MAX_DELAY_MS = 1_500
POLL_EVERY_MS = 4 * MINUTE
POLL_LASTS_MS = 90 * SECOND


def live_event_log(
    seed: int,
    people: int,
    minutes: int,
    *,
    session: str = "s",
    start: int = 1_700_000_000_000,
    ended: bool = True,
    exodus: int | None = None,
) -> list[LogRecord]:
    """Return the log of one session, in order of arrival; nothing in it is late, early or unusable.

    Two thirds of those who are there go within 4 s of the minute ``exodus``.

    Records arrive up to 1.5 s after their event. One person in seven never joins and only acts, three in ten don't
    leave, some come back, one event in a hundred is sent twice. About 2 events a person and minute.
    """
    rng = Random(seed)
    ends = start + minutes * MINUTE
    events: list[tuple[int, str, str, dict[str, str]]] = []
    stays = [_stay(rng, start, ends) for _ in range(people)]
    if exodus is not None:
        at = start + exodus * MINUTE
        stays = [
            (comes, at + rng.randrange(4_000)) if comes < at < goes and rng.random() < 2 / 3 else (comes, goes)
            for comes, goes in stays
        ]
    for number, (comes, goes) in enumerate(stays):
        user = f"u{number}"
        if rng.random() > 1 / 7:
            events.append((comes, "presence.join", user, {}))
            if rng.random() > 0.3:
                events.append((goes, "presence.leave", user, {}))
        events += _acts(rng, user, comes, goes)
    for number, opens in enumerate(range(start + MINUTE, ends - POLL_LASTS_MS, POLL_EVERY_MS)):
        poll = {"poll_id": f"poll{number}"}
        events.append((opens, "poll.opened", "host", poll))
        events.append((opens + POLL_LASTS_MS, "poll.closed", "host", poll))
        for voter, (comes, goes) in enumerate(stays):
            votes = opens + int(rng.expovariate(1 / (20 * SECOND)))
            if comes <= votes < goes and rng.random() < 0.5:
                events.append((votes, "poll.vote", f"u{voter}", poll))
    if ended:
        events.append((ends, "session.ended", "host", {}))
    return _sent(rng, events, session)


def _stay(rng: Random, start: int, ends: int) -> tuple[int, int]:
    comes = start + int(rng.betavariate(1, 4) * (ends - start))
    return comes, min(ends, comes + 1 + int(rng.betavariate(3, 1) * (ends - comes)))


def _acts(rng: Random, user: str, comes: int, goes: int) -> list[tuple[int, str, str, dict[str, str]]]:
    talkative = rng.lognormvariate(0, 0.8)
    acts: list[tuple[int, str, str, dict[str, str]]] = []
    ts = comes + int(rng.expovariate(talkative / MINUTE))
    while ts < goes:
        kind = rng.choices(("chat.message", "reaction", "telemetry.scroll"), (3, 4, 3))[0]
        acts.append((ts, kind, user, {}))
        ts += 1 + int(rng.expovariate(talkative / MINUTE))
    if acts and rng.random() < 0.1:  # away and back
        away = acts[len(acts) // 2][0]
        acts.append((away, "presence.leave", user, {}))
        acts.append((min(goes - 1, away + 20 * SECOND), "presence.join", user, {}))
    return acts


def _sent(rng: Random, events: list[tuple[int, str, str, dict[str, str]]], session: str) -> list[LogRecord]:
    records = []
    for number, (ts, kind, user, fields) in enumerate(events):
        raw = event(kind, ts, user, event_id=f"{rng.getrandbits(32):08x}-{number}", session=session, **fields)
        copies = 2 if rng.random() < 0.01 else 1
        for _ in range(copies):
            delay = min(MAX_DELAY_MS, int(rng.expovariate(1 / MEAN_DELAY_MS)))
            records.append(record(raw, ts + delay))
    return numbered(sorted(records, key=lambda entry: (entry.record_ts, entry.topic)))
