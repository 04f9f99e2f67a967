// How long things take, as far as this page can tell without guessing.

import { median } from "./dom.js";

const KEPT = 30;

class Times {
  #kept = [];

  add(ms) {
    this.#kept.push(ms);
    if (this.#kept.length > KEPT) this.#kept.shift();
  }

  clear() {
    this.#kept = [];
  }

  /** Return the median in ms, undefined if nothing was measured. */
  get median() {
    return median(this.#kept);
  }
}

/** The time of a ping to the gateway and back: one clock alone, so it is exact. */
export const roundTrips = new Times();

/**
 * How old a score is when it arrives: this machine's clock minus the end of the score's window. It contains what the
 * flow waits for late events (2 s, up to 7 s in a quiet session) and the difference of the two machines' clocks.
 */
export const ages = new Times();

let since = Infinity;

/** A new connection: what ended before it is history and says nothing about how long it takes. */
export function connected() {
  since = Date.now();
  ages.clear();
  roundTrips.clear();
}

export function arrived(record) {
  if (record.ts > since) ages.add(Date.now() - record.ts);
}
