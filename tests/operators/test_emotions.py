"""The emotions that the flow tells are those of the reference, whatever the cuts, shards, restarts and companions."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operators.emotions import sieve
from operators.emotions.wanted import Wanted
from operators.interventions.config import InterventionConfig
from operators.interventions.content import read_interventions
from operators.interventions.cues import Cue, CueBatch, Felt, Scored
from operators.interventions.policies import Policies
from operators.interventions.shard import Interventions
from schemas.batches import END_OF_TIME
from schemas.outbound import Intervention, Record
from tests import events
from tests.model import LogRecord
from tests.operators.diagnosed import (
    RULES,
    START,
    brief,
    by_session,
    cues_of,
    emotions_of,
    expected,
    followed,
    logs,
    said,
)

MAPPING = read_interventions(emotions=RULES.emotions)


@pytest.fixture(autouse=True, scope="module")
def _both_ways() -> Iterator[None]:
    """Look at what is much to a test in columns, and at what a cut leaves of it one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sieve, "_FEW", 5)
        yield


def interventions_of(cues: Iterable[Iterable[Cue]], policy: dict[str, Any]) -> list[Record]:
    """Return what is decided about the cues of all shards."""
    decide = Interventions(InterventionConfig(policies=Policies(policy)), *MAPPING)
    told: list[Record] = []
    for number, of_shard in enumerate(cues):
        told += decide.take(CueBatch(number, 0, list(of_shard)))
        told += decide.advance(END_OF_TIME, number)
    return sorted(told, key=lambda record: (record.ts, record.id, getattr(record, "revision", 0)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs())
def test_emotions_are_those_of_the_reference(log: list[LogRecord]) -> None:
    assert sorted(map(brief, emotions_of(cues_of(log)))) == expected(log)


@pytest.mark.parametrize("cuts", [(), (1, 2, 3)])
def test_what_comes_while_a_rule_waits_is_used_up_with_it(cuts: tuple[int, ...]) -> None:
    acts = ((0, "add"), (0, "view"), (0, "add"), (600_000, "view"))
    log = [
        events.record(events.event("telemetry.cart", START + ms, event_id=f"e{n}", action=act), START + ms, "t", n)
        for n, (ms, act) in enumerate(acts)
    ]
    told = sorted(map(brief, emotions_of(cues_of(log, cuts))))
    assert told == expected(log)
    assert [rule for *_, rule, _, _, _ in told].count("cart_pause") == 1


MODES: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"mode": "MANUAL"}, {"mode": "SEMI_AUTO"}, {"holdout": 0.5}]
)


@st.composite
def answered_logs(draw: st.DrawFn) -> tuple[list[LogRecord], dict[str, Any]]:
    """Draw a log with people's answers to some of the interventions that its events lead to, and a tenant's policy."""
    log, policy = draw(logs()), draw(MODES)
    asked = [r for r in interventions_of(cues_of(log), policy) if isinstance(r, Intervention) and r.status != "expired"]
    answers = []
    for number in range(draw(st.integers(0, 6)) if asked else 0):
        about = draw(st.sampled_from(asked))
        ts = about.ts + 7_000 + draw(st.sampled_from([0, 1, 5_000, 53_000, 60_000, 1_793_000, 1_800_000]))
        fields = draw(
            st.sampled_from([("approval", {"approved": True, "by": "b"}), ("approval", {"approved": False, "by": "b"})])
            | st.sampled_from([("outcome", {"outcome": "shown"}), ("outcome", {"outcome": "converted"})])
        )
        raw = events.event(
            f"intervention.{fields[0]}", ts, about.user_id or "u", event_id=f"a{number}", session=about.session_id,
            intervention_id=about.id, **fields[1],
        )  # fmt: skip
        answers.append(events.record(raw, ts, "t", 1000 + number))
    return sorted([*log, *answers], key=lambda record: record.record_ts), policy


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(answered_logs(), st.lists(st.integers(0, 60), max_size=6), st.sampled_from([1, 3]), st.sets(st.integers(1, 6)))
def test_nothing_depends_on_cuts_shards_or_restarts(
    drawn: tuple[list[LogRecord], dict[str, Any]], cuts: list[int], shards: int, restarts: set[int]
) -> None:
    log, policy = drawn
    whole, cut = cues_of(log), cues_of(log, cuts, shards, restarts)
    assert by_session(cut) == by_session(whole)
    assert interventions_of(cut, policy) == interventions_of(whole, policy)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs(), st.randoms(use_true_random=False))
def test_sessions_do_not_depend_on_how_they_are_interleaved(log: list[LogRecord], random: Any) -> None:
    """Records of one time may come in any order of their sessions."""
    other = sorted(log, key=lambda r: (r.record_ts, random.random() if b'"s2"' in (r.raw or b"") else 0.5))
    kept = {name: [r for r in log if name in (r.raw or b"")] for name in (b'"s1"', b'"s2"')}
    mixed = [kept[b'"s2"' if b'"s2"' in (r.raw or b"") else b'"s1"'].pop(0) for r in other]
    assert by_session(cues_of(mixed)) == by_session(cues_of(log))


def test_who_comes_again_in_the_same_chunk_is_followed_as_he_is_then() -> None:
    """Of each user two sessions are in the chunk; the second's silence runs out with it."""
    users = [f"u{number}" for number in range(20)]
    log = [
        *(said("telemetry.click", 0, user=user, page="home") for user in users),
        said("session.ended", 1, user="host"),
        *(said("telemetry.click", 2, user=user, page="cart") for user in users),
        said("chat.message", 67_002, user="host"),
    ]
    whole = by_session(cues_of(log))
    shown = [emotion.user_id for cue in whole["t", "s"] if isinstance(cue, Felt) for emotion in cue.emotions]
    assert sorted(shown) == sorted(users)
    assert by_session(cues_of(log, range(len(log)))) == whole


ABOUT = f"t/s/{START}/intervention/click/rage_click/help_chat"


def approval(after_ms: int, *, about: str = ABOUT, **fields: Any) -> LogRecord:
    """Return a record of somebody's approval of an intervention."""
    return said("intervention.approval", after_ms, user="boss", intervention_id=about, **fields)


def scores(log: Sequence[LogRecord], cuts: Iterable[int] = ()) -> dict[int, float | None]:
    return {cue.ts - START: cue.score for of_shard in cues_of(log, cuts) for cue in of_shard if isinstance(cue, Scored)}


def test_an_approval_that_comes_late_is_measured_by_a_score_that_is_still_to_come() -> None:
    """Its own tick was closed seconds ago: nobody remembers that score, and 0 would be a lie."""
    chat = [said("chat.message", 1_000 * second) for second in range(140)]
    answer = approval(64_500, late_ms=12_000)
    log = sorted([*chat, answer], key=lambda record: record.record_ts)
    for cuts in ((), range(len(log))):
        found = scores(log, cuts)
        assert list(found) == [65_000, 125_000]
        assert all(found.values())


def test_an_approval_knows_a_score_whose_tick_an_early_event_has_closed() -> None:
    log = [
        said("chat.message", 1_000),
        said("chat.message", 4_000, late_ms=-4_000, user="u2"),
        said("chat.message", 4_100, late_ms=3_000, session="other"),
        said(
            "chat.message", 4_200, late_ms=-4_000, session="other"
        ),  # closes its tick, and nothing of the first's goes
        approval(4_500),
        said("chat.message", 70_000, user="u2"),
    ]
    for cuts in ((), *([i] for i in range(1, len(log))), range(len(log))):
        found = scores(log, cuts)
        assert list(found) == [5_000, 65_000]
        assert found[5_000]


def test_a_tick_that_no_session_had_is_told_by_stream_time_alone() -> None:
    log = [
        said("session.ended", 1_000, user="host"),
        approval(2_000),
        said("session.ended", 8_000, user="host"),
        said("chat.message", 70_000, session="other"),
    ]
    whole = by_session(cues_of(log))
    assert scores(log)[5_000] is None
    for cuts in ([2], [3], range(len(log))):
        assert by_session(cues_of(log, cuts)) == whole


def test_an_approval_from_the_far_future_is_not_waited_for() -> None:
    years = 7_000 * 365 * 86_400_000
    log = [approval(0, late_ms=-years), said("chat.message", 1), said("chat.message", 200_000)]
    assert max(scores(log)) == 65_000


def test_nothing_is_waited_for_where_an_approval_can_be_of_no_intervention() -> None:
    """Each made-up one took room for its session and two ticks, and was told two scores."""
    log = [
        approval(number, session=f"s{number}", about=about)
        for number, about in enumerate(["i1", "t/s1/then/intervention/x", "t/s2/1/emotion/x", ABOUT] * 100)
    ]
    assert not scores([*log, *(said("chat.message", 10_000 * number) for number in range(1, 10))])
    (stream,) = followed(log, 10)._streams.values()
    assert not stream.wanted.ticks


def test_a_score_is_known_though_stream_time_leapt_beyond_it() -> None:
    """The wait of u1 runs out at 64 s and is told at 100 s, when ticks up to 90 s are closed, too."""
    log = [
        said("telemetry.cart", 4_000, action="view"),
        said("telemetry.page_view", 30_000, user="u2", page="home"),
        said("telemetry.checkout", 67_500, user="u2", step="fail"),
        said("chat.message", 100_000, user="u2", session="other"),
    ]
    whole = cues_of(log)
    assert by_session(cues_of(log, range(len(log)))) == by_session(whole)
    assert scores(log)[65_000]


def test_a_score_that_is_wanted_again_behind_its_tick_is_told_at_both_places() -> None:
    log = [
        said("telemetry.scroll", 0, page="cart"),
        said("telemetry.page_view", 63_000, page="cart"),
        said("telemetry.click", 129_001, user="u2"),
        said("intervention.outcome", 129_999, user="boss"),
        said("chat.message", 140_000, user="u2", session="other"),
    ]
    assert by_session(cues_of(log, range(len(log)))) == by_session(cues_of(log))


def test_what_a_late_event_may_still_ask_for_outlives_a_restart() -> None:
    """Stream time is 11 s on when the second and third click come: a snapshot leaves out only what is out of reach."""
    place: dict[str, Any] = {"x": 10, "y": 10, "element": "buy", "page": "product"}
    log = [
        said("telemetry.click", 20_000, **place),
        said("chat.message", 31_500, user="u2", session="other"),
        said("telemetry.click", 31_600, late_ms=11_000, **place),
        said("telemetry.click", 31_700, late_ms=10_900, **place),
    ]
    whole = emotions_of(cues_of(log))
    assert [(found.rule, len(found.evidence)) for found in whole] == [("rage_click", 3)]
    assert emotions_of(cues_of(log, range(len(log)), restarts=[2])) == whole


def test_kept_scores_go_when_nobody_waits_and_a_missing_one_is_told_at_its_time() -> None:
    """The visitor's wait for more than a view of his cart runs out; nobody else ever waits."""
    log = [
        said("telemetry.cart", 4_000, action="view"),
        *(said("chat.message", 6_000 + 1_000 * second, user="u2") for second in range(150)),
    ]
    diagnosis = followed(log)
    (stream,) = diagnosis._streams.values()
    assert not stream.wanted.kept
    wanted = Wanted()
    wanted.add("t\0s", 5_000, 4_000)
    assert not list(wanted.missing(4_999))
    assert list(wanted.missing(5_000)) == [("t\0s", 5_000)]
    assert list(wanted.missing(65_000)) == [("t\0s", 65_000)]


def test_what_is_still_in_time_is_held_against_what_came_before_it() -> None:
    """The third record makes it time to free what is old; the fourth is just not late and 597 s after the first."""
    log = [
        said("telemetry.checkout", 44_000, step="payment"),
        said("telemetry.page_view", 44_001, page="product"),
        said("chat.message", 651_999, session="other"),
        events.record(events.event("telemetry.checkout", START + 640_500, step="payment"), START + 651_999, "t", 1),
    ]
    assert by_session(cues_of(log, range(len(log)))) == by_session(cues_of(log))


def test_a_straggler_of_a_session_that_is_over_is_not_the_next_ones() -> None:
    """Be it that the session was ended, be it that nothing came for half an hour."""
    ended = [said("session.ended", 100_000), said("telemetry.hover", 100_001, page="pricing", duration_ms=1)]
    silent = [said("chat.message", 0), said("chat.message", 1_801_000)]
    for log in (
        [*ended, said("telemetry.scroll", 103_000, late_ms=4_000, velocity=5_000)],
        [*silent, said("telemetry.scroll", 1_801_500, late_ms=2_000, velocity=5_000)],
    ):
        assert by_session(cues_of(log, range(len(log)))) == by_session(cues_of(log))
        assert not emotions_of(cues_of(log))


def test_what_happened_before_a_silence_does_not_break_it() -> None:
    """Be it a repeat, be it an event that came too late to its place."""
    before, cart = said("chat.message", 0), said("telemetry.cart", 1_000, action="view")
    later = said("chat.message", 100_000, user="u2")
    repeat = events.record(before.raw, START + 1_500, "t", 1)
    for odd in (repeat, said("chat.message", 1_500, late_ms=1_000)):
        found = emotions_of(cues_of([before, cart, odd, later]))
        assert [(each.rule, each.ts) for each in found] == [("silence_at_till", START + 61_000)]


def test_those_who_fail_to_do_something_at_once_are_told_of_in_one_order() -> None:
    """The one's wait is seen to be over at an event of his own, the other's when stream time has reached it."""
    for last in ("u1", "u2"):
        log = [
            *(
                said("telemetry.hover", 0, user=user, element="box", duration_ms=0, page="cart")
                for user in ("u1", "u2")
            ),
            said("chat.message", 0, user="u3", session="other"),
            said("chat.message", 68_000, user="u3", session="other"),
            said("chat.message", 68_001, user=last),
        ]
        whole = cues_of(log)
        assert by_session(cues_of(log, range(len(log)))) == by_session(whole)
        assert [each.user_id for each in emotions_of(whole)] == ["u1", "u2"]
