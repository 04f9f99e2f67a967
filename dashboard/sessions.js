// What is known of every session: its newest engagement record, and its points of the last five minutes.

export const SPAN_MS = 5 * 60 * 1000;
const FORGOTTEN_MS = 35 * 60 * 1000; // longer than a session outlives its last event
const MOST = 5000;

export function keyOf(record) {
  return JSON.stringify([record.tenant_id, record.session_id]);
}

export class Sessions {
  #all = new Map();
  #newest = 0;

  get size() {
    return this.#all.size;
  }

  get(key) {
    return this.#all.get(key);
  }

  /** Take an engagement record; an older one is a point of the past, a repeat changes nothing. */
  add(record) {
    const key = keyOf(record);
    const known = this.#all.get(key);
    const session = known ?? { key, points: [], ended: false };
    insert(session.points, pointOf(record));
    if (known && known.record.ts >= record.ts) return;
    session.record = record;
    session.ended = false;
    while (session.points[0].ts < record.ts - SPAN_MS) session.points.shift();
    // Out and in again: the map's order is that of the newest records, so the first ones are the oldest.
    this.#all.delete(key);
    this.#all.set(key, session);
    this.#newest = Math.max(this.#newest, record.ts);
    for (const [oldest, { record: last }] of this.#all) {
      if (this.#all.size <= MOST && last.ts >= this.#newest - FORGOTTEN_MS) break;
      this.#all.delete(oldest);
    }
  }

  /** Take a session's summary, which says that it is over. */
  end(summary) {
    const session = this.#all.get(keyOf(summary));
    if (!session || session.record.ts > summary.ts) return;
    session.ended = true;
    this.#all.delete(session.key);
  }

  /** Return the sessions whose name or tenant contains `text`, in an order of ORDERS; equal ones by name. */
  sorted(order, text, alarms) {
    const wanted = text.trim().toLowerCase();
    const found = [...this.#all.values()].filter(
      ({ record }) =>
        record.session_id.toLowerCase().includes(wanted) || record.tenant_id.toLowerCase().includes(wanted),
    );
    const byName = (a, b) => (a.key < b.key ? -1 : 1);
    const first = ORDERS[order];
    return found.sort((a, b) => first(a, b, alarms) || byName(a, b));
  }
}

const lowest = (a, b) => a.record.score - b.record.score;
const isEmpty = ({ record }) => record.signals.connected_users === 0;
const ORDERS = {
  // Where nobody is left nobody can be helped: without an alarm such sessions come last.
  attention: (a, b, alarms) =>
    alarms.severity(b.key) - alarms.severity(a.key) || isEmpty(a) - isEmpty(b) || lowest(a, b),
  lowest,
  highest: (a, b) => lowest(b, a),
  largest: (a, b) => b.record.signals.connected_users - a.record.signals.connected_users,
  name: (a, b) => a.record.session_id.localeCompare(b.record.session_id),
};

/** Put a point where it belongs in time, which is nearly always the end; drop it if it is there. */
function insert(points, point) {
  let i = points.length;
  while (i > 0 && points[i - 1].ts > point.ts) i -= 1;
  if (i > 0 && points[i - 1].ts === point.ts) return;
  points.splice(i, 0, point);
}

/** A whole record weighs ten times as much, and 5,000 sessions have 60 points each. */
function pointOf({ ts, score, category, signals }) {
  return {
    ts,
    score,
    category,
    chat_per_min: signals.chat_per_min,
    active_users: signals.active_users,
    poll_participation: signals.poll_participation,
    reactions_per_min: signals.reactions_per_min,
  };
}
