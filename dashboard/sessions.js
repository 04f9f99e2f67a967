// What is known of every session: its newest engagement record and its scores of the last five minutes.

export const SPAN_MS = 5 * 60 * 1000;
const FORGOTTEN_MS = 35 * 60 * 1000; // longer than a session outlives its last event
const MOST = 5000;

export class Sessions {
  #all = new Map();
  #newest = 0;

  get size() {
    return this.#all.size;
  }

  get(key) {
    return this.#all.get(key);
  }

  clear() {
    this.#all.clear();
    this.#newest = 0;
  }

  /** Take an engagement record; repeats and older ones change nothing. */
  add(record) {
    const key = keyOf(record);
    const known = this.#all.get(key);
    if (known && known.record.ts >= record.ts) return;
    const session = known ?? { key, points: [], ended: false };
    session.record = record;
    session.ended = false;
    session.points.push({ ts: record.ts, score: record.score, category: record.category });
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

  /** Return the sessions that contain `text`, by "recent" or "lowest"; equal ones by name, so that they stay put. */
  sorted(order, text) {
    const wanted = text.trim().toLowerCase();
    const found = [...this.#all.values()].filter(
      ({ record }) =>
        record.session_id.toLowerCase().includes(wanted) || record.tenant_id.toLowerCase().includes(wanted),
    );
    const byName = (a, b) => (a.key < b.key ? -1 : 1);
    const first =
      order === "lowest"
        ? (a, b) => a.record.score - b.record.score
        : (a, b) => b.record.ts - a.record.ts;
    return found.sort((a, b) => first(a, b) || byName(a, b));
  }
}

function keyOf(record) {
  return JSON.stringify([record.tenant_id, record.session_id]);
}
