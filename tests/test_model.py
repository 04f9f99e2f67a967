"""The reference's signals and scores against examples worked out by hand. Times are milliseconds from 0."""

from typing import Any

import pytest

from schemas.outbound import Engagement, Signals
from tests.events import event, log
from tests.model import DEFAULTS, MINUTE, Defaults, category, reference


def ticks(*payloads: bytes, config: Defaults = DEFAULTS) -> dict[int, Engagement]:
    """Return the engagement of a log that nothing is wrong with, by tick."""
    expected = reference(log(payloads), config)
    assert not expected.dead
    return {record.ts: record for record in expected.engagement}


def signals(tick: int, *payloads: bytes, config: Defaults = DEFAULTS) -> Signals:
    """Return the signals of one tick."""
    return ticks(*payloads, config=config)[tick].signals


def chat(ts: int, user: str = "a", **fields: Any) -> bytes:
    return event("chat.message", ts, user, **fields)


def join(ts: int, user: str = "a", **fields: Any) -> bytes:
    return event("presence.join", ts, user, **fields)


def leave(ts: int, user: str = "a", **fields: Any) -> bytes:
    return event("presence.leave", ts, user, **fields)


def vote(ts: int, user: str = "a", poll_id: str = "p1", **fields: Any) -> bytes:
    return event("poll.vote", ts, user, poll_id=poll_id, **fields)


def opened(ts: int, poll_id: str = "p1") -> bytes:
    return event("poll.opened", ts, "host", poll_id=poll_id)


def closed(ts: int, poll_id: str = "p1") -> bytes:
    return event("poll.closed", ts, "host", poll_id=poll_id)


def test_a_window_holds_its_first_moment_and_not_its_last() -> None:
    by_tick = ticks(chat(0), chat(59_999), chat(60_000))
    counts = {tick: by_tick[tick].signals.chat_per_min for tick in (5_000, 60_000, 65_000, 115_000, 120_000, 125_000)}
    # [0, 60 s) holds 0 and 59.999 s; [5 s, 65 s) 59.999 s and 60 s; [55 s, 115 s) both still; [60 s, 120 s) 60 s alone
    assert counts == {5_000: 1, 60_000: 2, 65_000: 2, 115_000: 2, 120_000: 1, 125_000: 0}


def test_reactions_are_counted_and_so_are_the_acts_of_one_user_once() -> None:
    got = signals(5_000, event("reaction", 1), event("reaction", 2), event("telemetry.click", 3), chat(4))
    assert (got.reactions_per_min, got.chat_per_min, got.active_users) == (2, 1, 2)  # u1 and a


def test_what_is_no_act_makes_nobody_present_or_active() -> None:
    got = signals(5_000, opened(1), closed(2), event("emotion.observed", 3, "b"))
    assert got == Signals(0, 0, 0, 0, 0.0, 0.0, 0.0)


def test_every_act_makes_its_user_present_and_active() -> None:
    acts = [chat(1, "a"), vote(2, "b"), event("reaction", 3, "c"), event("telemetry.search", 4, "d")]
    got = signals(5_000, *acts)
    assert (got.connected_users, got.active_users, got.active_ratio) == (4, 4, 1.0)


def test_the_score_is_the_sum_of_its_terms() -> None:
    by_tick = ticks(
        *(join(0, user) for user in "abcd"),
        opened(1_000),  # 4 present, the host is not
        vote(2_000, "a"),
        vote(3_000, "b"),
        chat(4_000, "a"),
        leave(6_000, "d"),
    )
    first, second = by_tick[5_000], by_tick[10_000]
    # ln 2 / ln 21 = 0.693147 / 3.044522 = 0.227670; x 0.30 = 0.068301
    assert first.contributions.chat == pytest.approx(0.068301, abs=1e-6)
    assert first.contributions.poll == 0.125  # 2 of 4, x 0.25
    assert first.contributions.active == 0.125  # a and b of 4, x 0.25
    assert (first.contributions.reactions, first.contributions.leaves) == (0.0, 0.0)
    assert first.score == pytest.approx(0.318301, abs=1e-6)
    assert first.category == "LOW"
    # d is gone: active 2 of 3, x 0.25 = 0.166667; left 1 of 4, x -0.10 = -0.025; the poll still counts from 4
    assert second.signals == Signals(1, 0, 3, 2, 2 / 3, 0.5, 0.25)
    assert second.contributions.leaves == -0.025
    assert second.score == pytest.approx(0.334968, abs=1e-6)


def test_logarithms_of_counts_reach_one_at_their_ceilings() -> None:
    def terms(chats: int, reactions: int) -> tuple[float, float]:
        payloads = [chat(n) for n in range(chats)] + [event("reaction", n) for n in range(reactions)]
        parts = ticks(*payloads)[5_000].contributions
        return parts.chat, parts.reactions

    assert terms(4, 3)[0] == pytest.approx(0.158590, abs=1e-6)
    assert terms(4, 3)[1] == pytest.approx(0.057813, abs=1e-6)
    # 0.30 ln 5 / ln 21 = 0.30 x 1.609438 / 3.044522; 0.10 ln 4 / ln 11 = 0.10 x 1.386294 / 2.397895
    assert terms(20, 10) == (0.30, 0.10)
    assert terms(200, 100) == (0.30, 0.10)


def test_a_score_below_zero_is_clamped_and_its_terms_are_not() -> None:
    record = ticks(join(0), leave(1))[5_000]
    assert (record.score, record.contributions.leaves, record.category) == (0.0, -0.10, "VERY_LOW")


@pytest.mark.parametrize(
    "score, name",
    [
        (1.0, "VERY_HIGH"),
        (0.8, "VERY_HIGH"),
        (0.7999999999999999, "HIGH"),
        (0.6, "HIGH"),
        (0.5999999999999999, "MODERATE"),
        (0.4, "MODERATE"),
        (0.3999999999999999, "LOW"),
        (0.2, "LOW"),
        (0.1999999999999999, "VERY_LOW"),
        (0.0, "VERY_LOW"),
    ],
)
def test_a_boundary_belongs_to_the_category_above_it(score: float, name: str) -> None:
    assert category(score) == name


def test_an_act_holds_its_user_for_five_minutes_that_moment_included() -> None:
    assert signals(310_000, chat(10_000)).connected_users == 1
    assert signals(310_000, chat(9_999)).connected_users == 0
    assert signals(315_000, chat(10_000)).connected_users == 0


def test_a_join_holds_its_user_until_a_leave() -> None:
    by_tick = ticks(join(0), chat(1_000, "b"), leave(1_000_000))
    assert by_tick[1_000_000].signals.connected_users == 1  # the leave lies beyond the window
    assert by_tick[1_005_000].signals.connected_users == 0


def test_a_leave_voids_earlier_acts_and_not_later_ones() -> None:
    assert signals(5_000, chat(1_000), leave(2_000)) == Signals(1, 0, 0, 1, 1.0, 0.0, 1.0)
    assert signals(5_000, chat(1_000), leave(2_000), chat(3_000)) == Signals(2, 0, 1, 1, 1.0, 0.0, 0.0)


def test_an_act_before_a_join_is_covered_by_the_join_and_voided_by_its_leave() -> None:
    assert signals(5_000, chat(1_000), join(2_000), leave(3_000)).connected_users == 0
    assert signals(600_000, chat(1_000), join(2_000)).connected_users == 1


def test_events_of_one_moment_count_in_the_order_of_their_ids() -> None:
    assert signals(5_000, join(1_000, event_id="b"), leave(1_000, event_id="a")).connected_users == 1
    assert signals(5_000, join(1_000, event_id="a"), leave(1_000, event_id="b")).connected_users == 0
    assert signals(5_000, join(1_000, event_id="Z"), leave(1_000, event_id="a")).connected_users == 0
    # code points: U+FF5E comes before U+1F600, whose UTF-16 begins with D83D
    assert signals(5_000, join(1_000, event_id="\uff5e"), leave(1_000, event_id="\U0001f600")).connected_users == 0


def test_an_act_after_a_leave_of_the_same_moment_stands_alone() -> None:
    moment = [join(0), leave(1_000, event_id="a"), chat(1_000, event_id="b")]
    connected = {tick: record.signals.connected_users for tick, record in ticks(*moment).items()}
    assert (connected[300_000], connected[305_000]) == (1, 0)  # 1 s + 5 min: the join is over


def test_who_acted_and_left_still_counts_among_those_who_could_act() -> None:
    got = signals(5_000, join(0, "a"), chat(1_000, "b"), leave(2_000, "b"))
    assert (got.active_users, got.active_ratio) == (1, 0.5)  # b of a and b


def test_leave_rate_counts_people_not_leaves() -> None:
    twice = [join(0), leave(1), join(2), leave(3), join(0, "b")]
    assert signals(5_000, *twice).leave_rate == 0.5  # a of a and b


def test_who_left_and_came_back_did_not_leave() -> None:
    assert signals(5_000, join(0), leave(1), join(2)).leave_rate == 0.0


def test_a_leave_tells_that_its_user_was_present_until_then() -> None:
    by_tick = ticks(leave(5_000, "stranger"))
    assert by_tick[10_000].signals == Signals(0, 0, 0, 0, 0.0, 0.0, 1.0)
    assert by_tick[65_000].signals.leave_rate == 1.0  # [5 s, 65 s) begins with the leave
    assert by_tick[70_000].signals.leave_rate == 0.0
    # an act that ran out at 300 s, and a leave at 400 s that tells of presence until then
    assert signals(405_000, chat(0), join(0, "b"), leave(400_000)).leave_rate == 0.5


def test_running_out_of_time_is_not_leaving_but_was_presence() -> None:
    by_tick = ticks(chat(0, "a"), join(0, "b"), leave(310_000, "b"))
    assert by_tick[305_000].signals.leave_rate == 0.0  # a ran out at 300 s
    assert by_tick[315_000].signals.leave_rate == 0.5  # b of a and b
    assert by_tick[360_000].signals.leave_rate == 0.5  # [300 s, 360 s): a was present at 300 s, that moment included
    assert by_tick[365_000].signals.leave_rate == 1.0  # [305 s, 365 s): b alone


def test_a_lost_leave_is_made_up_for_by_the_join_timeout() -> None:
    config = Defaults(join_timeout_ms=10 * MINUTE)
    payloads = [join(0), chat(300_000), chat(1_000_000)]
    connected = {tick: record.signals.connected_users for tick, record in ticks(*payloads, config=config).items()}
    assert connected[900_000] == 1  # 300 s + 10 min, that moment included
    assert connected[905_000] == 0
    assert connected[1_300_000] == 1  # the join is forgotten: 1,000 s + 5 min
    assert connected[1_305_000] == 0
    assert signals(905_000, join(0), chat(300_000), config=DEFAULTS).connected_users == 1


def test_an_act_at_the_last_moment_of_a_join_prolongs_it() -> None:
    config = Defaults(join_timeout_ms=10 * MINUTE)
    assert signals(1_200_000, join(0), chat(600_000), config=config).connected_users == 1
    assert 1_200_000 not in ticks(join(0), chat(600_001), config=config)  # absent since 900.001 s, and long silent


def test_a_join_timeout_that_passed_is_presence_in_the_window_and_no_leave() -> None:
    config = Defaults(join_timeout_ms=10 * MINUTE)
    by_tick = ticks(join(0), join(0, "b"), chat(500_000, "b"), leave(650_000, "b"), config=config)
    assert by_tick[655_000].signals.leave_rate == 0.5  # a ran out at 600 s, within [595 s, 655 s)
    assert by_tick[665_000].signals.leave_rate == 1.0  # and not within [605 s, 665 s)


def test_participation_counts_from_those_present_when_the_poll_began() -> None:
    room = [join(0, user) for user in "abc"]
    assert signals(15_000, *room, vote(10_000, "a")).poll_participation == 1 / 3
    assert signals(15_000, *room, vote(10_000, "d")).poll_participation == 1 / 4  # the first voter included
    assert signals(15_000, *room, opened(9_000), vote(10_000, "d")).poll_participation == 1 / 3
    assert signals(15_000, *room, opened(9_000), leave(9_500, "b"), vote(10_000, "a")).poll_participation == 1 / 3


def test_who_comes_or_goes_at_the_moment_a_poll_begins_counts_by_the_order_of_ids() -> None:
    room = [join(0, "a"), vote(2_000, "a", event_id="z")]
    start = event("poll.opened", 1_000, "host", event_id="m")
    assert signals(5_000, *room, join(1_000, "b", event_id="l"), start).poll_participation == 1 / 2
    assert signals(5_000, *room, join(1_000, "b", event_id="n"), start).poll_participation == 1.0
    assert signals(5_000, *room, join(0, "b"), leave(1_000, "b", event_id="l"), start).poll_participation == 1.0
    assert signals(5_000, *room, join(0, "b"), leave(1_000, "b", event_id="n"), start).poll_participation == 1 / 2


def test_who_is_present_for_the_last_moment_as_a_poll_begins_counts() -> None:
    assert signals(305_000, chat(0), join(0, "b"), opened(300_000), vote(301_000, "b")).poll_participation == 1 / 2
    assert signals(305_000, chat(0), join(0, "b"), opened(300_001), vote(301_000, "b")).poll_participation == 1.0


def test_participation_is_at_most_one_and_a_voter_counts_once() -> None:
    assert signals(5_000, opened(0), vote(1, "a"), vote(2, "b")).poll_participation == 1.0  # nobody there at first
    room = [join(0, user) for user in "abcd"]
    assert signals(5_000, *room, opened(1), vote(2, "a"), vote(3, "a")).poll_participation == 1 / 4
    assert signals(5_000, *room, opened(1)).poll_participation == 0.0


def test_a_poll_runs_until_it_is_closed() -> None:
    by_tick = ticks(join(0), opened(1_000), vote(2_000), closed(10_000))
    assert by_tick[10_000].signals.poll_participation == 1.0  # the close lies beyond the window
    assert by_tick[15_000].signals.poll_participation == 0.0


def test_a_poll_is_over_ten_minutes_after_its_last_vote() -> None:
    start = [join(0), opened(0), vote(5_000)]
    assert signals(600_000, *start).poll_participation == 1.0
    assert signals(605_000, *start).poll_participation == 0.0
    assert signals(610_000, *start, vote(605_000)).poll_participation == 0.0  # a straggler
    assert signals(610_000, *start, vote(604_999)).poll_participation == 1.0
    assert signals(605_000, *start, opened(300_000)).poll_participation == 0.0  # opening it again prolongs nothing
    assert signals(605_000, *start, vote(300_000, "a")).poll_participation == 1.0  # another vote of the same does


def test_a_poll_without_votes_is_over_ten_minutes_after_its_opening() -> None:
    assert signals(605_000, join(0), opened(1_000), vote(600_999)).poll_participation == 1.0
    assert signals(605_000, join(0), opened(1_000), vote(601_000)).poll_participation == 0.0


def test_opening_the_running_poll_changes_nothing() -> None:
    room = [join(0, user) for user in "ab"]
    assert signals(5_000, *room, opened(1), vote(2), join(3, "c"), opened(4)).poll_participation == 1 / 2


def test_the_next_poll_ends_the_one_before_and_its_late_votes_count_nowhere() -> None:
    room = [join(0, user) for user in "ab"]
    polls = [opened(1), vote(2, "a"), opened(3, "p2")]
    assert signals(5_000, *room, *polls).poll_participation == 0.0
    assert signals(5_000, *room, *polls, vote(4, "a", "p1")).poll_participation == 0.0
    assert signals(5_000, *room, *polls, vote(4, "a", "p1"), vote(5, "b", "p2")).poll_participation == 1 / 2


def test_an_ended_poll_that_is_opened_again_begins_anew() -> None:
    room = [join(0, user) for user in "ab"]
    polls = [opened(1), vote(2, "a"), closed(3), opened(4)]
    assert signals(5_000, *room, *polls).poll_participation == 0.0
    assert signals(5_000, *room, *polls, vote(5, "b")).poll_participation == 1 / 2
    after_another = [opened(1), vote(2, "a"), opened(3, "p2"), opened(4, "p1"), vote(5, "b", "p1")]
    assert signals(5_000, *room, *after_another).poll_participation == 1 / 2


def test_a_vote_for_an_unknown_poll_begins_it_and_ends_the_running_one() -> None:
    room = [join(0, user) for user in "abcd"]
    polls = [opened(1), vote(2, "a"), vote(3, "b"), vote(4, "c", "p2")]
    assert signals(5_000, *room, *polls).poll_participation == 1 / 4
    assert signals(5_000, *room, *polls, vote(5, "d", "p1")).poll_participation == 1 / 4


def test_a_poll_that_was_closed_is_not_begun_by_a_vote() -> None:
    assert signals(5_000, join(0), closed(1), vote(2)).poll_participation == 0.0
    assert signals(5_000, join(0), closed(1), opened(2), vote(3)).poll_participation == 1.0
    running = [join(0), opened(1), vote(2), closed(3, "p2"), vote(4, "a", "p2")]
    assert signals(5_000, *running).poll_participation == 1.0  # p1 runs on


def test_the_newest_32_ended_polls_are_remembered() -> None:
    polls = [payload for n in range(33) for payload in (opened(10 * n, f"p{n}"), closed(10 * n + 5, f"p{n}"))]
    assert signals(5_000, join(0), *polls, vote(400, "a", "p1")).poll_participation == 0.0
    assert signals(5_000, join(0), *polls, vote(400, "a", "p0")).poll_participation == 1.0


def test_a_poll_is_remembered_from_its_latest_end_and_not_while_it_runs() -> None:
    ends = [closed(n, f"p{n}") for n in range(32)]
    again = [closed(40, "p0"), closed(41, "new")]  # p1 is the oldest now, and forgotten
    assert signals(5_000, join(0), *ends, *again, vote(400, "a", "p0")).poll_participation == 0.0
    assert signals(5_000, join(0), *ends, *again, vote(400, "a", "p1")).poll_participation == 1.0
    running = [opened(40, "p31"), closed(41, "new")]  # 31 and the new one
    assert signals(5_000, join(0), *ends, *running, vote(400, "a", "p0")).poll_participation == 0.0


def test_a_vote_is_an_act_even_for_a_poll_that_is_over() -> None:
    got = signals(5_000, closed(1), vote(2))
    assert (got.active_users, got.connected_users, got.poll_participation) == (1, 1, 0.0)
