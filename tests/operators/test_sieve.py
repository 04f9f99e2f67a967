"""The sieve keeps events from the matcher, and nothing is told otherwise than if the matcher saw every event."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operators.chunk import Chunk
from operators.config import NEVER
from operators.decode import BatchDecoder
from operators.emotions import sieve
from operators.emotions.marks import Began
from operators.emotions.matcher import Matcher, Shown
from operators.emotions.recent import Recent
from operators.emotions.roles import Roles, sorters_of
from operators.emotions.rules import Rules, read_rules
from operators.emotions.sieve import Sieve
from operators.emotions.sifting import Batch
from operators.emotions.sorter import OBSERVED, TRACKED, path_of
from operators.emotions.table import Visitors
from operators.emotions.visitor import Visitor
from schemas.inbound import PageView
from tests import events
from tests.model import LogRecord
from tests.operators.diagnosed import DECODER, RULES, START, WINDOW, said
from tests.running import raw_batches

PATTERNS = """
[events]
view = { type = "telemetry.page_view" }
product_view = { type = "telemetry.page_view", page = "product" }
help_view = { type = "telemetry.page_view", page = "help", came_from = ["product", "cart"] }
returning = { type = "telemetry.page_view", returned = true }
click = { type = "telemetry.click" }
dead_click = { type = "telemetry.click", effect = false }
turn = { type = "telemetry.scroll", turned = "direction" }
other_element = { type = "telemetry.click", turned = "element" }
order = { type = "telemetry.checkout", step = "complete" }
payment = { type = "telemetry.checkout", step = "payment" }
at_the_till = [{ page = "cart" }, { type = "telemetry.checkout" }]
[settled]
by = "order"
about = ["cart"]
"""
VIEWS = ["view", "product_view", "help_view", "returning"]
THEMES = {
    "telemetry.page_view": [*VIEWS, "at_the_till"],
    "telemetry.click": ["click", "click", "dead_click", "other_element"],
    "telemetry.scroll": ["turn"],
    "telemetry.checkout": ["payment", "payment", "order", "at_the_till"],
}
"""Which patterns match events of a type."""


@st.composite
def rule(draw: st.DrawFn, names: Sequence[str]) -> dict[str, Any]:
    """Draw a rule of any form that a file may have, about some patterns."""
    some = st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)
    found: dict[str, Any] = {"on": draw(some), "cooldown_s": draw(st.sampled_from([0, 5]))}
    form = draw(st.sampled_from(["one", "count", "distinct", "gap", "pages", "after", "after"]))
    if form == "distinct":
        found |= {"on": draw(st.lists(st.sampled_from(VIEWS), min_size=1, max_size=2)), "distinct": "'url'"}
    if form in ("count", "distinct", "pages"):
        found |= {"count": draw(st.integers(2, 3)), "within_s": draw(st.sampled_from([1, 10, 60]))}
    if form == "gap":
        found |= {"count": draw(st.integers(2, 3)), "gap_s": 1, "gap_px": 30, "once_per_burst": draw(st.booleans())}
    if form == "pages":
        found |= {"on": draw(st.sampled_from([["returning"], ["returning", "click"]])), "same_pages": True}
    if form == "after":
        before = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
        found |= {"after": before, "within_s": draw(st.sampled_from([1, 60])), "after_lasts": draw(st.booleans())}
    if draw(st.booleans()) or (form == "one" and draw(st.booleans())):
        found |= {"unless": draw(some | st.just(["anything"])), "for_s": draw(st.sampled_from([3, 30]))}
    if draw(st.booleans()):
        found["about"] = ["cart"]
    return found


def rules_of(drawn: Iterable[dict[str, Any]]) -> Rules:
    text = PATTERNS
    for number, found in enumerate(drawn):
        text += f'[[rules]]\nname = "r{number}"\nemotion = "e"\nconfidence = 0.5\n'
        text += "".join(f"{key} = {str(value).lower()}\n" for key, value in found.items())
    with TemporaryDirectory() as folder:
        file = Path(folder) / "emotions.toml"
        file.write_text(text, encoding="utf-8")
        return read_rules(file)


SMALL = st.sampled_from([0, 10, 25, 50])
PAGES = st.sampled_from(["product", "cart", "help"])
KINDS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "telemetry.page_view": {"page": PAGES, "url": st.sampled_from(["/a", "/a/?x=1", "/b"])},
    "telemetry.click": {
        "element": st.sampled_from(["buy", "x"]), "x": SMALL, "y": st.just(0), "page": PAGES, "effect": st.booleans(),
    },
    "telemetry.scroll": {"direction": st.sampled_from(["up", "down"]), "page": PAGES},
    "telemetry.checkout": {"step": st.sampled_from(["payment", "payment", "complete"])},
    "emotion.observed": {},
    "chat.message": {},
}  # fmt: skip
STEPS = st.sampled_from(
    [0, 1, 100, 300, 300, 500, 999, 1_000, 1_000, 1_001, 3_000, 3_001, 9_000, 10_000, 30_000, 60_000]
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[LogRecord]]:
    """Draw rules, and what two visitors of one session did, much of it what the rules are about."""
    some = draw(st.lists(st.sampled_from([*THEMES]), min_size=1, max_size=2, unique=True))
    names = [name for kind in some for name in THEMES[kind]]
    return draw(st.lists(rule(names), min_size=1, max_size=4)), draw(logs(some))


@st.composite
def logs(draw: st.DrawFn, some: Sequence[str]) -> list[LogRecord]:
    """Draw what two visitors of one session did; some comes late, some again."""
    ts, log = START, []
    favourites = st.sampled_from([*some, *some, *some, *some, *KINDS])
    for number in range(draw(st.integers(1, 8) | st.integers(20, 40))):
        ts += draw(STEPS)
        kind, late = draw(favourites), draw(st.sampled_from([0, 0, 0, 0, 1, 1_500]))
        fields = {name: draw(values) for name, values in KINDS[kind].items()}
        raw = events.event(
            kind, ts - late, draw(st.sampled_from(["u1", "u1", "u1", "u1", "u2"])), event_id=f"e{number}", **fields
        )
        log += [events.record(raw, ts, "t", number)] * draw(st.sampled_from([1] * 9 + [2]))
    return log


class Told(NamedTuple):
    """What a visitor has shown, and what it rests on."""

    user: str
    rule: str
    ts: int
    evidence: tuple[str, ...]


def told(visitor: Visitor, shown: Sequence[Shown] | None) -> list[Told]:
    return [Told(visitor.user_id, found.rule.name, found.ts, tuple(found.evidence)) for found in shown or ()]


# Every event to the matcher.


class Plain:
    """One visitor, of whom the matcher sees every event; what holds of his past is looked up in plain values."""

    def __init__(self, matcher: Matcher, user: str) -> None:
        self.matcher, self.visitor = matcher, Visitor(user, 0)
        self.page: str | None = None
        self.places: list[tuple[str, str]] = []
        self.values: dict[int, Any] = {}
        self.armed: dict[int, Began] = {}

    def take(self, event: Any, mask: int, until: int) -> list[Told]:
        """Take an event; return what has failed to follow by a time (ms), and what it tells itself."""
        silences = self.matcher.roles.silences
        for which, began in list(self.armed.items()):
            due = began.ts + silences[which].for_ms
            if until >= due:
                self.matcher.begin(self.visitor, silences[which], began)
            if until >= due or event.ts >= began.ts:
                del self.armed[which]
        out = told(self.visitor, self.matcher.wake(self.visitor, until, START))
        if mask in (0, OBSERVED):
            self.matcher.hear(self.visitor, event.ts)
            return out
        mask = self.seen(event, mask)
        for which, silence in enumerate(silences):
            if silence.on & mask:
                self.armed.setdefault(which, Began(event.ts, event.event_id, event.user_id))
        return out + told(self.visitor, self.matcher.feed(self.visitor, event, mask, START, -1, ()))

    def seen(self, event: Any, mask: int) -> int:
        """Return the mask in the light of what came before."""
        past = self.matcher.rules.patterns.history
        out = mask & ~TRACKED
        for bit in past:
            out &= ~bit
        returns = elsewhere = False
        came, place = self.page, (getattr(event, "page", ""), path_of(getattr(event, "url", "")))
        if isinstance(event, PageView):
            if [place] != self.places[-1:]:
                returns = place in self.places[-2:-1]
                elsewhere = not returns
                self.places.append(place)
            self.page = event.page
        if returns:
            self.visitor.place, self.visitor.before = sorted(hash(each) for each in self.places[-2:])
        for bit, entry in past.items():
            if not mask & bit:
                continue
            if entry.kind == "turned":
                value = getattr(event, entry.field)
                holds = self.values.get(bit, value) != value
                self.values[bit] = value
            else:
                holds = returns if entry.kind == "returned" else came in entry.pages
            if holds:
                out |= entry.bit
            if entry.kind == "returned" and elsewhere:
                out |= TRACKED
        return out

    def end(self) -> list[Told]:
        """Return what has failed to follow at the end of time."""
        for which, began in self.armed.items():
            self.matcher.begin(self.visitor, self.matcher.roles.silences[which], began)
        return told(self.visitor, self.matcher.wake(self.visitor, NEVER, START))


def all_seen(rules: Rules, log: Sequence[LogRecord]) -> list[Told]:
    matcher, visitors, seen = Matcher(rules), dict[str, Plain](), set[str]()
    out = []
    for record in log:
        event = DECODER.decode(record.raw or b"")
        if event.event_id in seen and type(event) in sorters_of(rules):
            continue
        seen.add(event.event_id)
        sorter = sorters_of(rules).get(type(event))
        mask = OBSERVED if event.__struct_config__.tag == "emotion.observed" else 0
        if sorter is not None:
            mask = sorter.mask(event)
        visitor = visitors.setdefault(event.user_id, Plain(matcher, event.user_id))
        until = max(record.record_ts - WINDOW.stream_delay_ms, event.ts - 1)
        out += visitor.take(event, mask, until)
    return sorted(out + [each for visitor in visitors.values() for each in visitor.end()])


# What the sieve lets through.


class Sifted:
    """The visitors of one session, of whom the matcher sees what the sieve lets through."""

    def __init__(self, rules: Rules) -> None:
        self.matcher = Matcher(rules)
        self.table = Visitors(self.matcher.roles)
        self.sieve = Sieve(self.matcher.roles, self.table, WINDOW)
        self.recent = Recent()
        self.seen = 0

    def take(self, chunk: Chunk) -> list[Told]:
        """Take a chunk, all of whose events were accepted; return what it tells."""
        out = list[Told]()
        batch = Batch(chunk, None, chunk.user, np.zeros(len(chunk.sessions), np.int64))
        for let in self.sieve.sift(batch, self.recent)[0]:
            event = chunk.event(let.place) if let.item >= 0 else None
            visitor = self.table.visitor[let.row]
            if visitor is None:
                if event is None and not let.ran_out:
                    continue
                visitor = self.meet(let.row, (let.ran_out[0][1] if event is None else event).user_id)
            for which, began in let.ran_out:
                self.matcher.begin(visitor, self.matcher.roles.silences[which], began)
            ts = int(chunk.ts[let.place])
            until = max(int(chunk.stream_time[let.place]) - WINDOW.stream_delay_ms, ts - 1)
            out += told(visitor, self.matcher.wake(visitor, until, START))
            if let.between:
                visitor.place, visitor.before = let.between
            if event is None or let.mask == OBSERVED:
                self.matcher.hear(visitor, ts)
            else:
                self.seen += 1
                out += told(visitor, self.matcher.feed(visitor, event, let.mask, START, let.asked, let.owed))
            self.table.note(let.row, visitor)
        return out

    def meet(self, row: int, user: str) -> Visitor:
        """Return a visitor whom the matcher has not seen."""
        visitor = self.table.visitor[row] = Visitor(user, int(self.table.user[row]))
        return visitor

    def end(self) -> list[Told]:
        """Return what has failed to follow at the end of time."""
        out = []
        for row in self.table.row_by_key.values():
            for which, began in enumerate(self.table.armed[row]):
                if began is not None:
                    visitor = self.table.visitor[row] or self.meet(row, began.user_id)
                    self.matcher.begin(visitor, self.matcher.roles.silences[which], began)
            if self.table.visitor[row] is not None:
                out += told(self.table.visitor[row], self.matcher.wake(self.table.visitor[row], NEVER, START))
        return out


def sifted(rules: Rules, log: Sequence[LogRecord], cuts: Iterable[int] = ()) -> tuple[list[Told], int]:
    """Return what is told of a log, and how many events the matcher saw."""
    visitors, out = Sifted(rules), list[Told]()
    decoder = BatchDecoder(1, WINDOW, sorters_of(rules))
    for batch in raw_batches(log, cuts, ends=False):
        for _, chunk in decoder(batch).chunks:
            out += visitors.take(chunk)
    return sorted(out + visitors.end()), visitors.seen


@pytest.fixture(params=[100, -1], ids=["one by one", "in columns"], autouse=True, scope="module")
def _way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the few events of a test be looked at as few are, and as many are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sieve, "_FEW", request.param)
        yield


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases(), st.lists(st.integers(0, 30), max_size=4))
def test_what_is_held_back_would_have_told_nothing(
    case: tuple[list[dict[str, Any]], list[LogRecord]], cuts: list[int]
) -> None:
    """Whatever the rules."""
    rules, log = rules_of(case[0]), case[1]
    wanted = all_seen(rules, log)
    assert sifted(rules, log)[0] == wanted
    assert sifted(rules, log, cuts)[0] == wanted


def test_what_can_complete_nothing_is_held_back() -> None:
    """Of clicks minutes apart none reaches the matcher, of two close together the second, with the first beside it."""
    apart = [said("telemetry.click", 60_000 * number, effect=False, page="home") for number in range(20)]
    assert sifted(RULES, apart) == ([], 0)
    close = said("telemetry.click", 19 * 60_000 + 9_000, effect=False, page="home")
    (found,), seen = sifted(RULES, [*apart, close])
    assert (found.rule, seen) == ("dead_clicks", 1)
    assert found.evidence == (f"telemetry.click u1 {19 * 60_000}", f"telemetry.click u1 {19 * 60_000 + 9_000}")


def test_a_silence_goes_on_when_what_comes_was_before_it() -> None:
    """Whatever of it is at the till itself: the silence that began last is the one that counts."""
    log = [
        said("telemetry.click", 3_000, page="cart"),
        said("telemetry.click", 3_001, late_ms=1_001, page="cart"),
        said("chat.message", 62_500),
    ]
    assert sifted(RULES, log)[0] == sifted(RULES, log, [1, 2])[0] == all_seen(RULES, log) == []
    ended = said("chat.message", 63_500)
    (found,) = sifted(RULES, [*log[:2], ended])[0]
    assert found.evidence == ("telemetry.click u1 3000",)


def test_a_mark_is_kept_as_long_as_another_may_ask_for_it() -> None:
    first, last = (said("telemetry.click", at, effect=False, page="home") for at in (0, 10_000))
    (found,) = sifted(RULES, [first, said("chat.message", 9_999), last], [2])[0]
    assert (found.rule, len(found.evidence)) == ("dead_clicks", 2)


def test_a_repeat_is_known_as_long_as_it_is_accepted() -> None:
    click = said("telemetry.click", 0, effect=False, page="home")
    repeat = click._replace(record_ts=START + 11_999)
    assert sifted(RULES, [click, said("chat.message", 11_999), repeat], [2]) == ([], 0)


def test_the_middle_of_a_sequence_is_let_through_once_it_has_begun() -> None:
    log = [
        said("telemetry.page_view", 0, page="home"),
        said("telemetry.checkout", 1, step="payment"),
        said("telemetry.page_view", 2, page="home"),
        said("telemetry.checkout", 3, step="payment"),
        said("chat.message", 4),
    ]
    (found,), seen = sifted(RULES, log, range(len(log)))
    assert (found.rule, seen, len(found.evidence)) == ("payment_again", 3, 3)


# What masks mean.


def test_the_past_of_a_mask_is_replaced_by_what_it_is_about() -> None:
    roles, bits = Roles(RULES), RULES.patterns.bits
    past = {entry.kind: (bit, entry) for bit, entry in roles.past}
    returned, came_from = past["returned"][0], past["came_from"][0]
    view = roles[TRACKED | returned]
    assert roles.looked_back(view, 0, returns=True, elsewhere=False).mask == bits["returning"]
    assert roles.looked_back(view, 0, returns=False, elsewhere=True).mask == TRACKED
    assert roles.looked_back(view, came_from, returns=False, elsewhere=False).mask == 0
    help_view = roles[TRACKED | came_from]
    assert roles.looked_back(help_view, came_from, returns=False, elsewhere=False).mask == bits["help_view"]
    assert roles.looked_back(help_view, 0, returns=True, elsewhere=False).mask == 0
    ((turning, entry),) = roles.turns
    turns = roles[turning | bits["fast_scroll"]].turns
    assert turns is not None
    assert turns.does == entry.bit | bits["fast_scroll"] == bits["scroll_turn"] | bits["fast_scroll"]
    assert turns.does_not == bits["fast_scroll"]
    assert roles[turns.does].turns is roles[turns.does_not].turns is None
