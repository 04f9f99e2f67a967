// The anomalies that are not over yet, by session.

import { keyOf } from "./sessions.js";

const MOST = 5000; // sessions whose anomalies are kept
const SEVERITIES = { WARNING: 1, CRITICAL: 2 };

export class Alarms {
  #all = new Map(); // session -> type -> {record, since}

  /** Take an anomaly record. One that is told again while it lasts has begun when it was first told. */
  take(record) {
    const key = keyOf(record);
    const types = this.#all.get(key) ?? new Map();
    const known = types.get(record.anomaly_type);
    if (known && known.record.ts > record.ts) return; // a repeat, of one that may be over by now
    const since = known?.record.state === "raised" ? known.since : record.ts;
    types.set(record.anomaly_type, { record, since });
    this.#all.set(key, types);
    if (this.#all.size > MOST) this.#all.delete(this.#all.keys().next().value);
  }

  /** With the session its anomalies are over. */
  end(summary) {
    this.#all.delete(keyOf(summary));
  }

  /** Return what lasts, the worst first: {record, since}. */
  of(key) {
    return [...(this.#all.get(key)?.values() ?? [])]
      .filter(({ record }) => record.state === "raised")
      .sort((a, b) => SEVERITIES[b.record.severity] - SEVERITIES[a.record.severity] || b.since - a.since);
  }

  /** Return 2 while something critical lasts, 1 for a warning, else 0. */
  severity(key) {
    let worst = 0;
    for (const { record } of this.#all.get(key)?.values() ?? []) {
      if (record.state === "raised") worst = Math.max(worst, SEVERITIES[record.severity]);
    }
    return worst;
  }

  /** Return how many sessions something is the matter with. */
  get sessions() {
    let found = 0;
    for (const key of this.#all.keys()) found += this.severity(key) > 0 ? 1 : 0;
    return found;
  }
}
