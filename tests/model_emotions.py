"""The reference for emotions: one user's events in one session, a plain list, every rule tried anew at each event.

Straight from the contract's section 5. There is no state but when a rule last fired and how much of the list it has
used up; what holds at an event is computed from the list up to it. Whatever is fast must agree with this.

Where the contract is silent, this is assumed:

 1. Events are taken in the order of their partition, repeats removed, late and early ones too. Only windowed types are
    events here: what a bot, an approval or an outcome says is not the user's doing.
 2. Windows hold both ends: "within 10 s" is ``now.ts - then.ts <= 10,000``, for every event before in the order, also
    if its ``ts`` is ahead. "Over" is ``>``; "up to", "4 s and more", "after 5 s", "0.5 to 2.5 s" take the end in.
 3. A rule, not an emotion, cools down, for each user of a session by himself: it does not fire while ``now.ts -
    fired.ts < cooldown``. The cooldown is 10 s for every rule of frustration, 8 s for hesitation's, 5 s for the rest.
 4. When a rule of several events fires, all that it has gathered is used up: the next firing rests on later events
    alone. What completes while the rule cools down, or in a session's first 5 s, fires nothing and uses up nothing.
    Contexts are not gathered and so never used up: the scroll or click before, the page that a view came from, and
    "after pricing".
 5. A rage click fires at the first click of a burst that is its third or later and finds the rule neither cooling down
    nor fired in this burst. Distance and time are between neighbours; page and element play no part.
 6. "Without effect" is ``effect: false``, an error is ``error: true``; what is not said counts as neither. One click
    with an error is enough.
 7. Searches without a result: three within 120 s, whatever other searches lie between.
 8. A reversal is a scroll whose direction is not that of the user's scroll before, on whatever page; its time is the
    later scroll's. Four of them lie within 10 s of each other.
 9. Back and forth: repeated views of one page count as one. A view of the page before the last one is a return (home,
    help, home). The newest three views are all returns (home, help, home, help, home), these three within 60 s.
    ``page`` and the path of the ``url`` together tell pages apart: two products are two pages.
10. Names are compared without regard to case. An element's name contains ``price`` or ``review``, a payment field's one
    of the six words (forms say ``card-number``). A scroll's velocity counts without its sign.
11. A price hover has no least duration where an exit follows it. The exit intent is on ``pricing``, the hover may be
    anywhere. Any edge counts.
12. Erratic and stopping dead overlap: a deceleration over 5000 at a velocity over 2000 is both.
13. Cart review: a hover on ``cart`` of at most 3 s, within 60 s of a view of the cart. One for each view, since views
    are used up.
14. The 30 s on the cart run from the first view after an add of the last 10 minutes; later views do not wind them up
    again. They end with any checkout event, a page view of another page and the end of the session. The add is used up
    when the rule fires, not when the 30 s are ended.
15. The 60 s of silence run from every event on ``cart`` or ``checkout`` and every cart or checkout event but
    ``complete``, wherever the user was; any later event of his ends them, and so does the end of the session.
16. A timer fires at the ``ts`` that armed it plus its time, unless something with a ``ts`` up to that moment ends it
    first, that moment included. The first event of the user with a greater ``ts`` settles it: what comes after that,
    although its own ``ts`` is smaller, is too late to end it.
17. Top edge after pricing: an event with ``page`` pricing before the exit intent, which may itself be on any page.
18. Products are told apart by the path of the ``url`` of a page view of ``product``: three different ones.
19. Skeptical: views of help from product or checkout and clicks on reviews add up to two. The page that a view came
    from is that of the user's page view before.
20. The payment step is left by a page view of another page than ``checkout`` or by ``start``, and entered by
    ``payment``, again within 10 minutes. Failing is not leaving.
21. Price emotions: price_shock, sticker_shock, evaluation, hesitation. The age is the event's ``ts`` less the session's
    first; under 5,000 ms nothing is raised, under 15,000 the confidence is lowered.
22. After ``complete`` the rules about cart, price and leaving are silent: all of price_shock, sticker_shock,
    evaluation, hesitation, cart_review, cart_hesitation, abandonment_intent and exit_risk, and comparison shopping by
    the top edge. The others (frustration, confusion, three products, skeptical, anxiety) go on. So it stays until the
    session ends.
23. An observed emotion passes as it is, every time: no cooldown, no age, also after ``complete``.
24. What comes after its session's end in the order but not in time is of a session that is over: it shows nothing.
25. A rule of one event rests on it; of several, on the newest that it needs, in their order; a timer on what armed it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from schemas.inbound import Cart, Click, EmotionObserved, Event, ExitIntent, Pointer, Scroll, SessionEnded
from tests.emotion_needs import (
    RECENT_MS,
    Needs,
    S,
    after,
    back_and_forth,
    cart_view,
    doubt,
    empty_payment_field,
    erratic,
    hover_of,
    left_cart,
    no_effect,
    no_result,
    on_cart,
    on_sale_pages,
    one,
    page,
    payment_again,
    price_hover,
    products,
    rage,
    reversal,
    several,
    step,
)

IDLE_MS = 30 * 60 * S
PRICE_EMOTIONS = ("price_shock", "sticker_shock", "evaluation", "hesitation")
NOT_WINDOWED = ("chat.answer", "intervention.outcome", "intervention.approval", "handoff.resolved")
ON_CART_MS = 30 * S
SILENCE_MS = 60 * S


class Felt(NamedTuple):
    """An emotion, the rule that found it, when, how sure, and the ``event_id``s that it rests on."""

    emotion: str
    rule: str
    ts: int
    confidence: float
    evidence: tuple[str, ...]


class Rule(NamedTuple):
    """A row of the contract's table, or a half of one; ``sale``: silent after ``complete``."""

    name: str
    emotion: str
    confidence: float
    needs: Needs
    sale: bool = False
    cooldown_ms: int = 5 * S


FRUSTRATION_MS = 10 * S

RULES: tuple[Rule, ...] = (
    Rule("rage_click", "frustration", 0.90, rage, cooldown_ms=FRUSTRATION_MS),
    Rule("dead_clicks", "frustration", 0.80, several(2, 10 * S, lambda past, at: no_effect(past[at])),
         cooldown_ms=FRUSTRATION_MS),
    Rule("error_click", "frustration", 0.80, one(lambda e: isinstance(e, Click) and e.error is True),
         cooldown_ms=FRUSTRATION_MS),
    Rule("failed_checkout", "frustration", 0.80, one(lambda e: step(e, "fail")), cooldown_ms=FRUSTRATION_MS),
    Rule("empty_searches", "frustration", 0.80, several(3, 120 * S, lambda past, at: no_result(past[at])),
         cooldown_ms=FRUSTRATION_MS),
    Rule("scroll_reversals", "confusion", 0.70, several(4, 10 * S, reversal)),
    Rule("fast_scroll", "confusion", 0.70, one(lambda e: isinstance(e, Scroll) and abs(e.velocity) > 3000)),
    Rule("back_and_forth", "confusion", 0.70, back_and_forth),
    Rule("pointer_stop", "price_shock", 0.92,
         one(lambda e: isinstance(e, Pointer) and e.page == "pricing" and e.deceleration > 5000), sale=True),
    Rule("pricing_exit", "price_shock", 0.92,
         after(price_hover, 5 * S, lambda e: isinstance(e, ExitIntent) and e.page == "pricing"), sale=True),
    Rule("erratic_pointer", "sticker_shock", 0.90, several(3, 5 * S, lambda past, at: erratic(past[at])), sale=True),
    Rule("price_glance", "evaluation", 0.70, one(hover_of(price_hover, 500, 2500)), sale=True),
    Rule("price_stare", "hesitation", 0.90, one(hover_of(price_hover, 4 * S)), sale=True, cooldown_ms=8 * S),
    Rule("cart_review", "cart_review", 0.70, after(cart_view, 60 * S, hover_of(on_cart, 0, 3 * S)), sale=True),
    Rule("cart_stare", "cart_hesitation", 0.90, one(hover_of(on_cart, 3 * S + 1)), sale=True),
    Rule("exit_after_pricing", "comparison_shopping", 0.85,
         after(lambda e: page(e) == "pricing", 60 * S, lambda e: isinstance(e, ExitIntent) and e.edge == "top",
               context=True), sale=True),
    Rule("products_compared", "comparison_shopping", 0.85, products),
    Rule("doubts", "skeptical", 0.70, several(2, 60 * S, doubt)),
    Rule("payment_field_left_empty", "anxiety", 0.85, one(empty_payment_field)),
    Rule("payment_again", "anxiety", 0.85, payment_again),
    Rule("exit_from_till", "abandonment_intent", 0.85,
         one(lambda e: isinstance(e, ExitIntent) and e.edge in ("side", "back") and e.page in ("cart", "checkout")),
         sale=True),
    Rule("exits", "exit_risk", 0.88, several(2, 30 * S, lambda past, at: isinstance(past[at], ExitIntent)),
         sale=True),
)  # fmt: skip
"""All that an event completes; ``cart_pause`` and ``silence_at_till``, below, are completed by time."""


def felt(events: Sequence[Event], start: int, end: int | None = None) -> list[Felt]:
    """Return what one user shows, in order of ``ts``, then rule.

    ``events`` are his alone, of one session, in the order of their partition. ``start`` is the session's first ``ts``,
    ``end`` the ``ts`` of ``session.ended``, whoever sent it (None: the session runs out of time).
    """
    mine = [event for event in events if event.__struct_config__.tag not in NOT_WINDOWED]
    bought = next((at for at, event in enumerate(mine) if step(event, "complete")), len(mine))
    out = [found for rule in RULES for found in _fire(rule, mine, start, bought)]
    observed = [event for event in mine if isinstance(event, EmotionObserved)]
    out += [Felt(event.emotion, "observed", event.ts, event.confidence, (event.event_id,)) for event in observed]
    out += _silence(mine, bought, end)
    out += _cart_pause(mine, bought, end)
    return sorted(out, key=lambda found: (found.ts, found.rule, found.emotion, found.evidence))


def _fire(rule: Rule, events: Sequence[Event], start: int, bought: int) -> list[Felt]:
    out: list[Felt] = []
    used, fired = 0, None
    for at, now in enumerate(events):
        if rule.sale and at > bought:
            break
        needed = rule.needs(events[: at + 1], used)
        if not needed or (fired is not None and now.ts - fired < rule.cooldown_ms):
            continue
        confidence = rule.confidence
        if rule.emotion in PRICE_EMOTIONS:
            if now.ts - start < 5 * S:
                continue
            if now.ts - start < 15 * S:
                confidence = round(max(0.40, confidence - 0.20), 9)
        used, fired = at + 1, now.ts
        out.append(Felt(rule.emotion, rule.name, now.ts, confidence, tuple(event.event_id for event in needed)))
    return out


def _silence(events: Sequence[Event], bought: int, end: int | None) -> list[Felt]:
    out = []
    for at, event in enumerate(events[:bought]):
        due = event.ts + SILENCE_MS
        broken = any(later.ts <= due for later in events[at + 1 : at + 2]) or (end is not None and end <= due)
        if on_sale_pages(event) and not broken:
            out.append(Felt("exit_risk", "silence_at_till", due, 0.88, (event.event_id,)))
    return out


def _cart_pause(events: Sequence[Event], bought: int, end: int | None) -> list[Felt]:
    out: list[Felt] = []
    used = free = 0
    for at, event in enumerate(events[:bought]):
        before = [e for e in events[used:at] if event.ts - e.ts <= RECENT_MS]
        adds = [e for e in before if isinstance(e, Cart) and e.action == "add"]
        if at < free or not cart_view(event) or not adds:
            continue
        due = event.ts + ON_CART_MS
        rest = range(at + 1, len(events))
        passed = next((n for n in rest if events[n].ts > due), len(events))
        ended = next((n for n in rest[: passed - at - 1] if left_cart(events[n])), None)
        free = passed if ended is None else ended
        if ended is None and (end is None or end > due):
            used = passed
            out.append(Felt("cart_hesitation", "cart_pause", due, 0.90, (adds[-1].event_id, event.event_id)))
    return out


class User(NamedTuple):
    """A user of one session of one tenant; ``start`` tells a session from the next of the same name."""

    tenant_id: str
    session_id: str
    start: int
    user_id: str


def felt_in(log: Sequence[Event]) -> dict[User, list[Felt]]:
    """Return what every user of a log shows, those who show nothing too. The log is in order of ``ts``."""
    open_: dict[tuple[str, str], list[Event]] = {}
    over: list[list[Event]] = []
    for event in log:
        if event.__struct_config__.tag in NOT_WINDOWED:
            continue
        key = event.tenant_id, event.session_id
        session = open_.get(key)
        if session and _comes_after_its_end(session, event):
            continue
        if session and _is_over(session, event):
            over.append(open_.pop(key))
        open_.setdefault(key, []).append(event)
    out: dict[User, list[Felt]] = {}
    for session in [*over, *open_.values()]:
        first = session[0]
        end = next((event.ts for event in session if isinstance(event, SessionEnded)), None)
        for user_id in {event.user_id: None for event in session}:
            mine = [event for event in session if event.user_id == user_id]
            out[User(first.tenant_id, first.session_id, first.ts, user_id)] = felt(mine, first.ts, end)
    return out


def _comes_after_its_end(session: Sequence[Event], event: Event) -> bool:
    return any(isinstance(e, SessionEnded) and event.ts <= e.ts for e in session)


def _is_over(session: Sequence[Event], event: Event) -> bool:
    last = session[-1]
    ended = any(isinstance(e, SessionEnded) for e in session)
    return event.ts - last.ts >= IDLE_MS or (ended and event.ts > last.ts)
