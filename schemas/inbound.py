"""What Attune reads: one struct for each inbound event, decoded and checked in one pass by msgspec.

Every event is one JSON object of at most ``MAX_RECORD_BYTES`` bytes. Limits on the fields are part of the types, so
decoding is checking; the only rule that types can't carry (no control characters in ids) is checked by the decoder in
``operators.decode``.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MAX_RECORD_BYTES = 64 * 1024
MAX_TS = 253_402_300_799_999
"""The last millisecond of the year 9999, UTC."""

Id = Annotated[str, Meta(min_length=1, max_length=128, description="1 to 128 characters")]
CleanId = Annotated[str, Meta(min_length=1, max_length=128, description="1 to 128 characters, none of them a control")]
Ts = Annotated[int, Meta(ge=0, le=MAX_TS, description="milliseconds since 1970 UTC")]
Ratio = Annotated[float, Meta(ge=0.0, le=1.0, description="0..1")]
MAX_COUNT = 2**53 - 1
"""The greatest integer that every reader of JSON keeps exactly."""
Millis = Annotated[int, Meta(ge=0, le=MAX_COUNT, description="a duration in milliseconds")]
Text = Annotated[str, Meta(max_length=4000)]
LongText = Annotated[str, Meta(max_length=MAX_RECORD_BYTES)]
Name = Annotated[str, Meta(max_length=256)]
Url = Annotated[str, Meta(max_length=4096)]
Page = Literal["pricing", "product", "cart", "checkout", "search", "help", "home", "other"]


class Event(msgspec.Struct, frozen=True, gc=False, tag_field="type"):
    """What every inbound record carries. ``event_id`` is unique within a session; a repeat has the same ``ts``."""

    event_id: Id
    tenant_id: CleanId
    session_id: CleanId
    user_id: CleanId
    ts: Ts


class ChatMessage(Event, frozen=True, gc=False, tag="chat.message"):
    """A person wrote in the session's chat."""

    text: Text
    conversation_id: Id | None = None


class Canonical(msgspec.Struct, frozen=True, gc=False):
    """The prepared answer that is nearest to the question."""

    id: Id
    similarity: Ratio


class ChatAnswer(Event, frozen=True, tag="chat.answer"):
    """An agent (a bot) answered; the answer waits to be judged and routed."""

    conversation_id: Id
    agent_id: Id
    question: LongText
    answer: LongText
    retrieval: Annotated[list[Ratio], Meta(max_length=1000)] | None = None
    canonical: Canonical | None = None
    self_assessment: Ratio | None = None
    user_tier: Name | None = None


class PollOpened(Event, frozen=True, gc=False, tag="poll.opened"):
    """A poll began."""

    poll_id: Id


class PollVote(Event, frozen=True, gc=False, tag="poll.vote"):
    """A person voted in a poll."""

    poll_id: Id
    option_id: Id


class PollClosed(Event, frozen=True, gc=False, tag="poll.closed"):
    """A poll was closed."""

    poll_id: Id


class PresenceJoin(Event, frozen=True, gc=False, tag="presence.join"):
    """A person came into the session."""


class PresenceLeave(Event, frozen=True, gc=False, tag="presence.leave"):
    """A person left the session, having been there until now."""


class SessionEnded(Event, frozen=True, gc=False, tag="session.ended"):
    """The session is over."""


class Reaction(Event, frozen=True, gc=False, tag="reaction"):
    """A person sent a reaction (an emoji)."""

    emoji: Annotated[str, Meta(min_length=1, max_length=64)]


class PageView(Event, frozen=True, gc=False, tag="telemetry.page_view"):
    """A page was opened."""

    url: Url
    page: Page


class Click(Event, frozen=True, gc=False, tag="telemetry.click"):
    """A click; ``effect`` tells whether anything changed within 2.5 s. ``x`` and ``y`` are in px."""

    element: Name
    x: float
    y: float
    page: Page
    effect: bool | None = None
    error: bool | None = None


class Hover(Event, frozen=True, gc=False, tag="telemetry.hover"):
    """The pointer rested on an element for ``duration_ms``."""

    element: Name
    duration_ms: Millis
    page: Page


class Scroll(Event, frozen=True, gc=False, tag="telemetry.scroll"):
    """A scroll to ``depth`` (0..1 of the page) at ``velocity`` px/s."""

    depth: Ratio
    velocity: float
    direction: Literal["up", "down"]
    page: Page


class Pointer(Event, frozen=True, gc=False, tag="telemetry.pointer"):
    """The pointer's movement: ``velocity`` in px/s, ``deceleration`` in px/s²."""

    velocity: float
    deceleration: float
    page: Page


class ExitIntent(Event, frozen=True, gc=False, tag="telemetry.exit_intent"):
    """The pointer left the page by an edge, or the visitor went back."""

    edge: Literal["top", "side", "back"]
    page: Page


class Field(Event, frozen=True, gc=False, tag="telemetry.field"):
    """A form field was left after ``duration_ms``, filled or not. Its content is never sent."""

    field: Name
    duration_ms: Millis
    filled: bool
    page: Page


class Cart(Event, frozen=True, gc=False, tag="telemetry.cart"):
    """Something was done with the cart. ``price`` is in the shop's own currency."""

    action: Literal["add", "remove", "view"]
    product_id: Id | None = None
    price: Annotated[float, Meta(ge=0)] | None = None


class Checkout(Event, frozen=True, gc=False, tag="telemetry.checkout"):
    """A step of the checkout. ``value`` is in the shop's own currency."""

    step: Literal["start", "payment", "complete", "fail"]
    value: Annotated[float, Meta(ge=0)] | None = None


class Search(Event, frozen=True, gc=False, tag="telemetry.search"):
    """A search and how many ``results`` it found."""

    query: Text
    results: Annotated[int, Meta(ge=0, le=MAX_COUNT)]


class EmotionObserved(Event, frozen=True, gc=False, tag="emotion.observed"):
    """An emotion that another system diagnosed."""

    emotion: Id
    confidence: Ratio


class InterventionOutcome(Event, frozen=True, gc=False, tag="intervention.outcome"):
    """What became of an intervention."""

    intervention_id: Annotated[str, Meta(min_length=1, max_length=1024)]
    outcome: Literal["delivered", "shown", "clicked", "dismissed", "converted", "failed"]


class InterventionApproval(Event, frozen=True, gc=False, tag="intervention.approval"):
    """A person approved or refused a pending intervention."""

    intervention_id: Annotated[str, Meta(min_length=1, max_length=1024)]
    approved: bool
    by: Id


class HandoffResolved(Event, frozen=True, gc=False, tag="handoff.resolved"):
    """A person dealt with a hand-off, and says whether it was needed."""

    conversation_id: Id
    needed: bool
    handled_by: Id | None = None


AnyEvent = (
    ChatMessage
    | ChatAnswer
    | PollOpened
    | PollVote
    | PollClosed
    | PresenceJoin
    | PresenceLeave
    | SessionEnded
    | Reaction
    | PageView
    | Click
    | Hover
    | Scroll
    | Pointer
    | ExitIntent
    | Field
    | Cart
    | Checkout
    | Search
    | EmotionObserved
    | InterventionOutcome
    | InterventionApproval
    | HandoffResolved
)
"""The union that is decoded: the field ``type`` tells which."""
