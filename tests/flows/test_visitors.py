"""Generated visitors: deterministic, valid, human; their labels are what a plain reading of section 5 finds."""

import io
from collections import Counter, defaultdict
from itertools import islice, pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.generate import SCENARIOS, Plan
from flows.generate.visitors.personas import CALM, MOVED
from flows.generate.visitors.traffic import LONGEST_MS, ROOMS, LiveVisitorsTraffic, VisitorsTraffic, calm
from flows.generate.visitors.truth import EMOTIONS, OBSERVED, Visitor, VisitorsTruth
from flows.generate.write import Lines, batches
from schemas import inbound
from schemas.errors import ConfigError
from schemas.inbound import AnyEvent, Event
from schemas.registry import type_of
from tests.emotion_needs import price_hover
from tests.model_emotions import RULES, felt_in

SMALL = Plan(sessions=60, seed=3, tenants=2)
TURN = 2 * len(MOVED)
"""Sessions after which every persona that is moved has come."""


def played(plan: Plan, scenario: str = "visitors") -> tuple[list[Event], VisitorsTruth]:
    traffic = SCENARIOS[scenario].make(plan)
    events = list(traffic.events())
    truth = traffic.truth()
    assert isinstance(truth, VisitorsTruth)
    return events, truth


def lines(plan: Plan) -> bytes:
    stream = io.BytesIO()
    to = Lines(stream)
    for batch in batches(VisitorsTraffic(plan).events()):
        to.send(batch)
    return stream.getvalue()


def by_user(events: list[Event]) -> dict[tuple[str, str, str], list[Event]]:
    found: dict[tuple[str, str, str], list[Event]] = defaultdict(list)
    for event in events:
        found[event.tenant_id, event.session_id, event.user_id].append(event)
    return found


def who(visitor: Visitor) -> tuple[str, str, str]:
    return visitor.tenant_id, visitor.session_id, visitor.user_id


@pytest.fixture(scope="module")
def many() -> tuple[list[Event], VisitorsTruth]:
    return played(Plan(sessions=20 * TURN, seed=11))


def test_the_same_plan_gives_the_same_bytes_and_truth_and_another_seed_others() -> None:
    assert lines(SMALL) == lines(SMALL)
    assert lines(SMALL) != lines(Plan(60, seed=4, tenants=2))
    assert played(SMALL)[1] == played(SMALL)[1]


def test_labels_cost_no_event_and_a_visit_does_not_depend_on_the_others() -> None:
    assert lines(SMALL) == lines(Plan(60, seed=3, tenants=2, truth=False))
    assert played(Plan(60, truth=False))[1].visitors == []
    alone = list(VisitorsTraffic(Plan(1, seed=3, tenants=2)).events())
    assert [event for event in VisitorsTraffic(SMALL).events() if event.session_id == "visit-1"] == alone


@settings(max_examples=20, deadline=None)
@given(
    scenario=st.sampled_from(["visitors", "visitors-calm"]),
    sessions=st.integers(1, 80),
    seed=st.integers(),
    tenants=st.integers(1, 3),
    start=st.integers(0, 4_000_000_000_000),
)
def test_events_are_valid_in_order_and_unique(
    scenario: str, sessions: int, seed: int, tenants: int, start: int
) -> None:
    plan = Plan(sessions, seed=seed, tenants=tenants, start_ts=start)
    events, truth = played(plan, scenario)
    decoder = msgspec.json.Decoder(AnyEvent)
    assert [decoder.decode(msgspec.json.encode(event)) for event in events] == events
    assert all(one.ts <= other.ts for one, other in pairwise(events))
    assert plan.start_ts <= events[0].ts
    assert events[-1].ts == SCENARIOS[scenario].make(plan).end_ts
    assert len({(event.session_id, event.event_id) for event in events}) == len(events)
    users = by_user(events)
    assert set(users) == {who(visitor) for visitor in truth.visitors}
    for visitor in truth.visitors:
        mine = users[who(visitor)]
        assert (mine[0].ts, mine[-1].ts) == (visitor.start_ts, visitor.end_ts)
        assert [event.event_id for event in mine] == sorted(event.event_id for event in mine)
        assert visitor.end_ts - visitor.start_ts < LONGEST_MS / 2
        assert all(visitor.start_ts <= shown.ts <= visitor.end_ts + 60_000 for shown in visitor.shown)


@pytest.mark.parametrize("scenario, seed", [("visitors", 1), ("visitors", 9_000), ("visitors-calm", 2)])
def test_labels_are_what_a_plain_reading_of_the_contract_finds(scenario: str, seed: int) -> None:
    events, truth = played(Plan(8 * TURN, seed=seed), scenario)
    found = {(user.tenant_id, user.session_id, user.user_id): felt for user, felt in felt_in(events).items()}
    assert set(found) == {who(visitor) for visitor in truth.visitors}
    for visitor in truth.visitors:
        labels = Counter((shown.emotion, shown.rule, shown.ts) for shown in visitor.shown)
        assert labels == Counter((f.emotion, f.rule, f.ts) for f in found[who(visitor)]), visitor


def test_every_persona_shows_what_it_is_for(many: tuple[list[Event], VisitorsTruth]) -> None:
    shown: dict[str, list[set[str]]] = defaultdict(list)
    for visitor in many[1].visitors:
        shown[visitor.persona].append({one.rule for one in visitor.shown})
    assert set(shown) == {persona.name for persona in (*CALM, *MOVED)}
    for persona, visits in shown.items():
        assert len(visits) >= 20
        if persona in (*EMOTIONS, OBSERVED):
            assert all(persona in rules for rules in visits)
    assert set().union(*shown["reader"], *shown["leaver"]) == set()
    assert set().union(*shown["comparer"]) == {"price_glance"}
    assert set().union(*shown["buyer"]) == {"cart_review"}
    assert all(len(rules) >= 2 for rules in shown["eventful"])


def test_rows_are_those_of_the_contract() -> None:
    assert len(set(EMOTIONS.values())) == 13
    timed = {"cart_pause": "cart_hesitation", "silence_at_till": "exit_risk"}
    assert {rule.name: rule.emotion for rule in RULES} | timed == EMOTIONS


@pytest.mark.parametrize(
    "together",
    [
        ("rage_click", "dead_clicks"),
        ("erratic_pointer", "pointer_stop"),
        ("pricing_exit", "price_glance"),
        ("pricing_exit", "price_stare"),
        ("pricing_exit", "exit_after_pricing"),
        ("cart_review", "price_glance"),
        ("cart_stare", "price_stare"),
        ("back_and_forth", "doubts"),
        ("exits", "exit_from_till"),
        ("exits", "exit_after_pricing"),
        ("silence_at_till", "exit_from_till"),
        ("silence_at_till", "cart_pause"),
        ("silence_at_till", "failed_checkout"),
    ],
)
def test_one_behaviour_may_show_two_emotions(
    many: tuple[list[Event], VisitorsTruth], together: tuple[str, str]
) -> None:
    both = [visitor for visitor in many[1].visitors if set(together) <= {shown.rule for shown in visitor.shown}]
    assert len(both) >= 3


def test_calm_visitors_come_near_the_thresholds_on_the_right_side() -> None:
    events, _ = played(Plan(300, seed=5), "visitors-calm")
    near: Counter[str] = Counter()
    for mine in by_user(events).values():
        hovers = [e for e in mine if isinstance(e, inbound.Hover) and price_hover(e)]
        near["neither evaluation nor hesitation"] += sum(2_600 < hover.duration_ms < 3_900 for hover in hovers)
        near["too short"] += sum(hover.duration_ms < 450 for hover in hovers)
        near["too young"] += sum(h.duration_ms > 500 and h.ts - mine[0].ts < 5_000 for h in hovers)
        clicks = [e for e in mine if isinstance(e, inbound.Click)]
        near["double click"] += sum(b.ts - a.ts <= 300 for a, b in pairwise(clicks))
        near["third click too late"] += sum(
            b.ts - a.ts <= 300 and 1_000 < c.ts - b.ts < 2_500
            for a, b, c in zip(clicks, clicks[1:], clicks[2:], strict=False)
        )
        near["three clicks too far apart"] += sum(
            c.ts - a.ts < 2_000 and c.x - b.x == b.x - a.x == 45
            for a, b, c in zip(clicks, clicks[1:], clicks[2:], strict=False)
        )
        scrolls = [e for e in mine if isinstance(e, inbound.Scroll)]
        turned = [b.ts for a, b in pairwise(scrolls) if a.direction != b.direction]
        near["three reversals"] += sum(b - a < 10_000 for a, b in zip(turned, turned[2:], strict=False))
        near["nearly too fast"] += sum(2_500 < scroll.velocity < 3_000 for scroll in scrolls)
        near["one exit"] += sum(isinstance(e, inbound.ExitIntent) for e in mine) == 1
        near["one dead click"] += sum(click.effect is False for click in clicks) == 1
    assert all(count >= 5 for count in near.values()), near


def test_half_of_the_calm_only_read() -> None:
    events, truth = played(Plan(1000, seed=8), "visitors-calm")
    users = by_user(events)
    assert all(visitor.calm for visitor in truth.visitors)
    assert len(truth.visitors) == 1040
    readers = [visitor for visitor in truth.visitors if visitor.persona == "reader"]
    assert len(readers) >= 500
    for reader in readers:
        mine = users[who(reader)]
        assert not any(isinstance(event, inbound.Cart | inbound.Checkout | inbound.EmotionObserved) for event in mine)
        assert not any(getattr(event, "page", "") in ("pricing", "cart", "checkout") for event in mine)
        assert not any("price" in getattr(event, "element", "").lower() for event in mine)
    assert all(calm(slot).calm for slot in range(10))


def test_there_is_something_of_everything(many: tuple[list[Event], VisitorsTruth]) -> None:
    events, truth = many
    kinds = {type_of(type(event)) for event in events}
    assert {kind for kind in kinds if kind.startswith("telemetry.")} == {
        *("telemetry.page_view", "telemetry.click", "telemetry.hover", "telemetry.scroll", "telemetry.pointer"),
        *("telemetry.exit_intent", "telemetry.field", "telemetry.cart", "telemetry.checkout", "telemetry.search"),
    }
    assert kinds >= {"emotion.observed", "chat.message", "reaction", "presence.join", "presence.leave", "session.ended"}
    sessions = Counter(visitor.session_id for visitor in truth.visitors)
    assert Counter(sessions.values())[2] == len(sessions) // 25
    ended = {event.session_id for event in events if isinstance(event, inbound.SessionEnded)}
    assert ended
    assert not ended & {session for session, users in sessions.items() if users > 1}
    # Interleaved: the next event is rarely of the same session.
    assert sum(a.session_id == b.session_id for a, b in pairwise(events)) < len(events) / 10


def test_live_sessions_in_trouble_stand_beside_visitors() -> None:
    plan = Plan(sessions=40, seed=6)
    events, truth = played(plan, "visitors-live")
    assert truth.visitors == played(plan)[1].visitors
    assert {room.kind for room in truth.rooms} == set(ROOMS)
    assert all(room.episodes for room in truth.rooms)
    assert all(one.ts <= other.ts for one, other in pairwise(events))
    visits, rooms = {one.session_id for one in truth.visitors}, {one.session_id for one in truth.rooms}
    assert {event.session_id for event in events} == visits | rooms
    assert events[-1].ts <= LiveVisitorsTraffic(plan).end_ts


def test_a_repeating_plan_never_ends_and_repeats_no_session() -> None:
    traffic = VisitorsTraffic(Plan(sessions=2, repeat=True))
    events = list(islice(traffic.events(), 500))
    assert all(one.ts <= other.ts for one, other in pairwise(events))
    assert {"visit-1", "visit-2", "visit-1-2", "visit-2-2"} <= {event.session_id for event in events}
    names = [who(visitor) for visitor in traffic.truth().visitors]
    assert len(names) == len(set(names)) > 2


@pytest.mark.parametrize("wish", [{"people": 5}, {"minutes": 2.0}, {"rate": 2.0}])
def test_what_visits_do_not_take_is_refused(wish: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="of their own"):
        VisitorsTraffic(Plan(**wish))  # type: ignore[arg-type]  # one dictionary, several types
