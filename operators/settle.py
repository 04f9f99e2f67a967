"""What a closing leaves behind: which ticks are told, the summaries of ended sessions, and the state of the rest."""

from dataclasses import dataclass

import numpy as np

from operators.anomalies.detector import Reports
from operators.columns import Flags, Int64s
from operators.config import PANE_MS, ScoreConfig
from operators.engagement import Floats, ScoreColumns, SignalColumns
from operators.kinds import IS_CHAT, IS_JOIN, IS_LEAVE, IS_REACTION, IS_TELEMETRY, IS_VOTE
from operators.polls import Polls
from operators.presence import LONG_AGO, Pieces, UserStates
from operators.rows import TOTALS, Users
from operators.span import Span

_FAMILY = np.zeros(256, np.int64)
"""Which column of ``rows.TOTALS`` counts each kind; 0, which counts all, for those without one of their own."""
for _column, _flags in enumerate((IS_CHAT, IS_REACTION, IS_VOTE, IS_TELEMETRY, IS_JOIN, IS_LEAVE), 1):
    _FAMILY[_flags] = _column

MILLIONTHS = 1_000_000
"""Scores are summed as whole millionths: a sum of floats would depend on how the ticks were cut into closings."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Sessions that ended, of shape (n,) (``totals``: (n, len(TOTALS))). ``session`` indexes the span's sessions."""

    session: Int64s
    end: Int64s
    by_event: Flags
    totals: Int64s
    users: Int64s
    peak_connected: Int64s
    ticks: Int64s
    score_sum: Int64s
    score_peak: Floats


@dataclass(frozen=True, slots=True)
class Closed:
    """What a closing has to tell.

    ``keys`` and ``start`` are those of its sessions, which ``session`` (of each tick) and ``ended.session`` index;
    ``told`` says which ticks become records, ``anomalies`` what was found.
    """

    keys: list[str]
    start: Int64s
    session: Int64s
    ts: Int64s
    signals: SignalColumns
    scores: ScoreColumns
    told: Flags
    ended: Ended
    anomalies: Reports | None


def settle(
    span: Span,
    signals: SignalColumns,
    scores: ScoreColumns,
    watched: tuple[Reports | None, Int64s],
    users: Users,
    polls: dict[int, Polls],
    config: ScoreConfig,
) -> Closed:
    """Write the state after the last tick back to the rows, free what ended, and return what is to be told."""
    table, n = span.table, len(span.row)
    counts = span.axis.count
    alive = span.alive
    anomalies, baseline = watched
    told, emitted_score, emitted_ts = _told(span, scores.score, alive, config)

    kept = np.where(span.kept, span.row, 0)
    totals = np.where(span.kept[:, None], table.totals[kept], 0)
    totals += _by_family(span, n)
    at = span.tick_session[alive]
    ticks = np.where(span.kept, table.ticks[kept], 0) + np.bincount(at, minlength=n)
    score_sum = np.where(span.kept, table.score_sum[kept], 0)
    np.add.at(score_sum, at, np.rint(scores.score[alive] * MILLIONTHS).astype(np.int64))
    score_peak = np.where(span.kept, table.score_peak[kept], 0.0)
    np.maximum.at(score_peak, at, scores.score[alive])
    peak_connected = np.where(span.kept, table.peak_connected[kept], 0)
    np.maximum.at(peak_connected, at, signals.connected_users[alive])
    user_count = np.bincount(span.pieces.session[span.pieces.firsts], minlength=n)

    done = np.flatnonzero(span.finished)
    ended = Ended(
        done,
        span.told_end[done],
        span.by_event[done],
        totals[done],
        user_count[done],
        peak_connected[done],
        ticks[done],
        score_sum[done],
        score_peak[done],
    )
    closed = Closed(
        [table.keys[row] for row in span.row.tolist()],
        span.start,
        span.tick_session,
        span.tick_ts,
        signals,
        scores,
        told,
        ended,
        anomalies,
    )

    lives = np.flatnonzero(~span.finished)
    _keep_known_users(span, users)
    fresh = span.rows[np.bincount(span.row_place[lives[span.kept[lives]]], minlength=len(span.rows)) == 0]
    users.free(fresh)
    table.reset(fresh)
    rows = span.row[lives]
    for name, values in (
        ("start", span.start),
        ("last", span.last),
        ("totals", totals),
        ("ticks", ticks),
        ("score_sum", score_sum),
        ("score_peak", score_peak),
        ("peak_connected", peak_connected),
        ("emitted_score", emitted_score),
        ("emitted_ts", emitted_ts),
        ("baseline", baseline),
    ):
        getattr(table, name)[rows] = values[lives]
    moved = lives[counts[lives] > 0]
    rows = span.row[moved]
    table.next_tick[rows] = span.axis.first[moved] + counts[moved] * PANE_MS
    table.silent[rows] = span.nobody[span.tick_at[moved + 1] - 1]
    table.chats[rows] = span.history(span.chats, moved)
    table.reactions[rows] = span.history(span.reactions, moved)
    table.anything[rows] = span.history(span.anything, moved)
    _add_new_users(span, users)
    for i, state in span.polls.items():
        polls.pop(int(span.row[i]), None)
        if not span.finished[i]:
            polls[int(span.row[i])] = state
    _schedule(span, lives)
    return closed


def _by_family(span: Span, n: int) -> Int64s:
    """Count the events of each of the span's sessions, of shape (n, len(TOTALS))."""
    width = len(TOTALS)
    cell = span.of_event * width + _FAMILY[span.events.kind]
    counts = np.bincount(cell, minlength=n * width).reshape(n, width)
    counts[:, 0] = counts.sum(axis=1)
    return counts


def _told(span: Span, score: Floats, alive: Flags, config: ScoreConfig) -> tuple[Flags, Floats, Int64s]:
    """Return which ticks become records, and each session's last told score and tick."""
    kept = np.where(span.kept, span.row, 0)
    last_score = np.where(span.kept, span.table.emitted_score[kept], -1.0)
    last_ts = np.where(span.kept, span.table.emitted_ts[kept], LONG_AGO)
    if config.emit == "every_tick":
        return alive, last_score, last_ts
    told = np.zeros(len(alive), np.bool_)
    for k in range(int(span.axis.count.max(initial=0))):
        session = np.flatnonzero(span.axis.count > k)
        tick = span.tick_at[session] + k
        differs = np.abs(score[tick] - last_score[session]) >= config.min_delta
        overdue = span.tick_ts[tick] - last_ts[session] >= config.heartbeat_ms
        now = alive[tick] & (differs | overdue | span.nobody[tick])
        told[tick] = now
        last_score[session[now]], last_ts[session[now]] = score[tick[now]], span.tick_ts[tick[now]]
    return told, last_score, last_ts


def _keep_known_users(span: Span, users: Users) -> None:
    """Store each known user of the living sessions as his last element left him."""
    pieces = span.pieces
    known = pieces.is_state[pieces.firsts] & ~span.finished[pieces.session[pieces.lasts]]
    users.put(span.entries[pieces.order[pieces.firsts[known]]], _states(pieces, pieces.lasts[known]))


def _add_new_users(span: Span, users: Users) -> None:
    """Store the users that living sessions did not have before."""
    pieces = span.pieces
    new = pieces.lasts[~pieces.is_state[pieces.firsts] & ~span.finished[pieces.session[pieces.lasts]]]
    users.append(span.row[pieces.session[new]], pieces.user[new], _states(pieces, new))


def _states(pieces: Pieces, at: Int64s) -> UserStates:
    return UserStates(pieces.acted[at], pieces.valid[at], pieces.left[at], pieces.joined[at], pieces.touched[at])


def _schedule(span: Span, lives: Int64s) -> None:
    """Say for every row when it has something to do next; give the row back if it holds nothing any more."""
    table = span.table
    following = span.horizon + PANE_MS
    waiting = table.waiting[span.rows] > 0
    idle = np.ones(len(span.rows), np.bool_)
    idle[span.row_place[lives]] = False
    due = following.copy()
    rows = span.row[lives]
    sleeps = -(-span.end[lives] // PANE_MS) * PANE_MS
    place = span.row_place[lives]
    due[place] = np.where(table.silent[rows], sleeps, table.next_tick[rows])
    due[place] = np.where(waiting[place], np.minimum(due[place], following[place]), due[place])
    table.due[span.rows] = due
    table.remove(span.rows[idle & ~waiting])
