// The latest records of one kind, each id once.

const MOST = 5000; // of all sessions together

export class Stream {
  #all = new Map();

  /** Take a record; a higher revision takes the place of the one before it. Returns whether it was news. */
  take(record) {
    const known = this.#all.get(record.id);
    if (known && (known.revision ?? 0) >= (record.revision ?? 0)) return false;
    this.#all.set(record.id, record);
    if (this.#all.size > MOST) this.#all.delete(this.#all.keys().next().value);
    return true;
  }

  /** Return the records of a session (of any of its records), the newest first. */
  of({ tenant_id: tenant, session_id: session }) {
    const its = (record) => record.session_id === session && record.tenant_id === tenant;
    return [...this.#all.values()].filter(its).sort((a, b) => b.ts - a.ts);
  }
}
