"""Who does nothing any more: what no rule can need of him is freed, though his session lives on."""

import numpy as np

from operators.columns import Int64s
from operators.config import NEVER
from operators.emotions.matcher import Matcher
from operators.emotions.table import Visitors
from operators.emotions.visitor import Visitor


def sweep(table: Visitors, matcher: Matcher, rows: Int64s, oldest: int) -> list[Visitor]:
    """Free what of visitors (rows) can't matter to any event from a time (``oldest``, ms) on.

    Return those whom the matcher knew and knows no more.
    """
    out_of_reach = table.met[rows] < oldest - matcher.roles.windows
    old, slot = np.nonzero(out_of_reach)
    table.put_by[rows[old], slot] = None
    for row in rows[table.begun[rows] & (table.last[rows] < oldest - matcher.memory_ms)].tolist():
        table.visitor[row].forget()
        table.note(row, table.visitor[row])
    waits = table.waits[rows] | table.begun[rows] | (table.due[rows] < NEVER).any(axis=1)
    idle = rows[~waits & (table.last[rows] < oldest) & out_of_reach.all(axis=1)]
    known = table.visitor[idle].tolist()
    let_go = [visitor is None or matcher.is_done_with(visitor, oldest) for visitor in known]
    table.lay_by(idle[let_go])
    return [visitor for visitor, gone in zip(known, let_go, strict=True) if gone and visitor is not None]
