"""What a wish to subscribe asks for, whether it may, and what it is told first."""

from typing import NamedTuple

from sinks.websocket.envelope import Envelope
from sinks.websocket.history import History
from sinks.websocket.limits import Limits
from sinks.websocket.principal import Principal
from sinks.websocket.replies import Resumption
from sinks.websocket.requests import FaultCode, FaultError, Subscribe, known


class First(NamedTuple):
    """The records that come first, the offsets at which they leave the subscriber, and which channels go on."""

    records: list[Envelope]
    offsets: dict[str, int]
    resumed: dict[str, Resumption]


def permitted(wish: Subscribe, who: Principal, limits: Limits) -> tuple[str, ...]:
    """Return the channels that are asked for, without repeats.

    Raises:
        FaultError: there is no such channel, this one may not have it, or it asks for too much.
    """
    channels = known(wish.channels)
    if not set(channels) <= set(who.channels):
        raise FaultError(FaultCode.FORBIDDEN, f"expected only channels out of {', '.join(who.channels)}")
    if wish.sessions is not None and who.session is not None and set(wish.sessions) != {who.session}:
        raise FaultError(FaultCode.FORBIDDEN, "expected no session but its own")
    if len(set(wish.sessions or ())) > limits.sessions:
        raise FaultError(FaultCode.TOO_MANY_SESSIONS, f"expected at most {limits.sessions} sessions")
    if wish.history is not None and wish.history > limits.history_records:
        raise FaultError(FaultCode.BAD_MESSAGE, f"expected a history of at most {limits.history_records}")
    if wish.resume is not None and not set(wish.resume.offsets) <= set(channels):
        raise FaultError(FaultCode.BAD_MESSAGE, "expected only offsets of the channels that are subscribed to")
    return channels


def first(wish: Subscribe, channels: tuple[str, ...], tenant: str | None, history: History, run: str) -> First:
    """Return what a subscriber is told first: what it missed, else the history it asks for, else the snapshot.

    ``tenant`` None sees all; since offsets count for each tenant, it has none. ``run`` is the one they belong to.
    """
    wanted = None if wish.sessions is None else frozenset(wish.sessions)
    records: list[Envelope] = []
    resumed: dict[str, Resumption] = {}
    for channel in channels:
        if wish.resume is not None and channel in wish.resume.offsets:
            missed: list[Envelope] | Resumption = "other_gateway"
            if wish.resume.gateway == run:
                offset = wish.resume.offsets[channel]
                missed = "unknown_offset" if tenant is None else history.since(channel, tenant, offset, wanted)
            if isinstance(missed, list):
                resumed[channel] = "resumed"
                records += missed
                continue
            resumed[channel] = missed
        if wish.history is not None:
            records += history.latest(channel, tenant, wanted, wish.history)
        else:
            records += history.snapshot(channel, tenant, wanted)
    offsets = {} if tenant is None else {channel: history.offset(channel, tenant) for channel in channels}
    return First(records, offsets, resumed)
