// What became of the interventions that were fired, in figures that are true: who met no client is in no rate.

import { at, element, median, milliseconds, percent, write } from "./dom.js";
import { ages, roundTrips } from "./latency.js";

/** Return the outcomes of every intervention: its id -> outcome -> when. */
export function outcomesById(outcomes) {
  const found = new Map();
  for (const { intervention_id: id, outcome, ts } of outcomes) {
    if (!found.has(id)) found.set(id, new Map());
    found.get(id).set(outcome, ts);
  }
  return found;
}

const REACHED = ["delivered", "shown", "clicked", "dismissed", "converted"];

/** Whether an intervention is shown to the organiser alone, on this page: no client is meant. */
export function forOrganiser({ intervention }) {
  return intervention === "notification";
}

/**
 * Count what became of the interventions that were fired. One without any outcome met no client: it neither succeeded
 * nor failed, so it is in no rate. `delay` is the median time in ms from what set one off to its delivery.
 */
export function delivery(interventions, outcomes) {
  const fired = interventions.filter((it) => it.status === "fired" && !forOrganiser(it));
  const figures = { fired: fired.length, delivered: 0, shown: 0, clicked: 0, failed: 0, alone: 0, delay: undefined };
  const delays = [];
  for (const { id, ts } of fired) {
    const became = outcomes.get(id) ?? new Map();
    if (REACHED.some((outcome) => became.has(outcome))) figures.delivered += 1;
    else if (became.has("failed")) figures.failed += 1;
    else figures.alone += 1;
    if (became.has("shown") || became.has("clicked") || became.has("converted")) figures.shown += 1;
    if (became.has("clicked") || became.has("converted")) figures.clicked += 1;
    if (became.has("delivered")) delays.push(became.get("delivered") - ts);
  }
  figures.delay = median(delays);
  return figures;
}

/** Draw the figures of `delivery`, beside what the page measures itself. */
export function showDelivery(figures) {
  const { fired, delivered, failed, alone } = figures;
  const tried = delivered + failed;
  const rate = fired === 0 ? "nothing fired" : tried === 0 ? "no client connected" : percent(delivered / tried);
  const met = tried === 0 ? "" : `${delivered} of ${tried} that met a client, `;
  const of = (count) => (delivered === 0 ? "none" : percent(count / delivered));
  const ms = (value) => (value === undefined ? "none yet" : milliseconds(value));
  const lines = [
    ["Gateway and back", ms(roundTrips.median), "median of the last pings"],
    ["Age of scores", ms(ages.median), "median on arrival; 2,000 ms and more of it wait for late events"],
    ["Cause to delivery", ms(figures.delay), "median, of those delivered"],
    ["Delivered", rate, fired === 0 ? "" : `${met}${alone} met none`],
    ["Shown", of(figures.shown), delivered === 0 ? "" : `${figures.shown} of ${delivered} delivered`],
    ["Clicked", of(figures.clicked), delivered === 0 ? "" : `${figures.clicked} of ${delivered} delivered`],
  ];
  const list = at("delivery");
  if (list.children.length === 0) {
    for (const [name] of lines) {
      const row = element("div");
      row.append(element("dt", "", name), element("dd", "amount"), element("dd", "sub"));
      list.append(row);
    }
  }
  lines.forEach(([, value, note], i) => {
    const [, amount, context] = list.children[i].children;
    write(amount, value);
    write(context, note);
  });
}
