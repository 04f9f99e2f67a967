// The page: takes what the gateway says, and draws the list of sessions and the chosen one of them.

import { Alarms } from "./alarms.js";
import { watchChart } from "./chart.js";
import { showDetail } from "./detail.js";
import { at, clock, element, mark, words, write } from "./dom.js";
import { showStreams } from "./entries.js";
import { Feed } from "./feed.js";
import { arrived, connected, roundTrips } from "./latency.js";
import { moveFocus, showList } from "./list.js";
import { watchScheme } from "./scheme.js";
import { Sessions } from "./sessions.js";
import { Stream } from "./stream.js";
import { find, keep } from "./token.js";

const DRAW_EVERY_MS = 200; // 5,000 sessions tell a thousand scores a second
const CHANNELS = ["engagement", "anomalies", "emotions", "interventions", "handoffs", "sessions"];
const CATEGORIES = ["VERY_HIGH", "HIGH", "MODERATE", "LOW", "VERY_LOW"];

const sessions = new Sessions();
const alarms = new Alarms();
const streams = {
  emotions: new Stream(),
  interventions: new Stream(),
  outcomes: new Stream(),
  handoffs: new Stream(),
};
const taken = {
  engagement: (record) => {
    arrived(record);
    sessions.add(record);
  },
  session: (record) => {
    sessions.end(record);
    alarms.end(record);
  },
  anomaly: (record) => alarms.take(record),
  emotion: (record) => streams.emotions.take(record),
  intervention: (record) => streams.interventions.take(record),
  outcome: (record) => streams.outcomes.take(record),
  "human_handoff.requested": (record) => streams.handoffs.take(record),
};

let chosen = null;
let clicked = false; // or is it only the page's own choice so far?
let told = ""; // what was last announced of the chosen session
let live = false;
let drawn = 0;
let waiting = false;
let countdown = 0;

const feed = new Feed(address(), CHANNELS, {
  state: showState,
  token: find,
  roundTrip: (ms) => roundTrips.add(ms),
  record: (record) => {
    taken[record.type]?.(record);
    refresh();
  },
});

at("order").addEventListener("change", draw);
at("find").addEventListener("input", draw);
at("which").addEventListener("change", draw);
at("sessions").addEventListener("keydown", moveFocus);
at("retry").addEventListener("click", () => feed.retryNow());
at("lock").addEventListener("submit", (event) => {
  event.preventDefault();
  keep(at("token").value.trim());
  at("token").value = "";
  feed.connect();
});
at("legend").append(
  ...CATEGORIES.map((category) => {
    const item = element("li", "", words(category));
    item.dataset.category = category;
    return item;
  }),
);
watchScheme(draw);
watchChart();
feed.connect();
draw();

function address() {
  const url = new URL("/ws", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

function showState(state, detail) {
  live = state === "live";
  if (live) connected();
  clearInterval(countdown);
  const names = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", locked: "Not signed in" };
  write(at("state"), names[state]);
  mark(at("state"), "state", state);
  at("lock").hidden = state !== "locked";
  at("main").hidden = state === "locked" && sessions.size === 0;
  if (state === "locked") {
    write(at("lock-text"), detail);
    at("token").focus();
  }
  if (live || state === "locked") at("cut").hidden = true;
  if (state === "reconnecting") {
    const until = performance.now() + detail * 1000;
    const tell = () => {
      const seconds = Math.max(0, Math.ceil((until - performance.now()) / 1000));
      const asOf = chosen ? ` What is shown is as of ${clock(chosen.record.ts)}.` : "";
      write(at("cut-text"), `The connection is lost.${asOf} Trying again in ${seconds} s.`);
    };
    tell();
    countdown = setInterval(tell, 1000);
    at("cut").hidden = false;
  }
  refresh();
}

/** Draw soon, and once for however much has changed by then. */
function refresh() {
  if (waiting) return;
  waiting = true;
  setTimeout(() => requestAnimationFrame(draw), Math.max(0, drawn + DRAW_EVERY_MS - performance.now()));
}

function draw() {
  waiting = false;
  drawn = performance.now();
  chosen = pick();
  showList(sessions, alarms, chosen, live, choose);
  showFleet();
  at("nothing").hidden = chosen !== null;
  at("chosen").hidden = chosen === null;
  write(
    at("nothing-text"),
    live
      ? "The gateway is connected. A session appears here within 5 seconds of its first event."
      : "Loading what the gateway knows.",
  );
  if (chosen === null) return;
  const lasting = alarms.of(chosen.key);
  showDetail(chosen, lasting);
  showStreams(chosen.record, streams);
  announce(lasting);
}

/** Return the session to show: the one that was chosen, else one that needs attention more than the one so far. */
function pick() {
  const known = chosen === null ? null : (sessions.get(chosen.key) ?? chosen);
  if (clicked && known !== null) return known;
  const first = sessions.sorted(at("order").value, "", alarms)[0] ?? null;
  if (known === null || known.ended || first === null) return first ?? known;
  return alarms.severity(first.key) > alarms.severity(known.key) ? first : known;
}

function showFleet() {
  const matter = alarms.sessions;
  write(at("fleet"), matter === 0 ? "" : `${matter} ${matter === 1 ? "session needs" : "sessions need"} attention`);
  const title = `${matter === 0 ? "" : `(${matter}) `}Attune: live engagement`;
  if (document.title !== title) document.title = title;
}

function choose(key) {
  chosen = sessions.get(key) ?? chosen;
  clicked = true;
  told = "";
  draw();
  // Below each other, as on a phone, the session would appear out of sight.
  if (at("detail").getBoundingClientRect().top > innerHeight / 2) {
    at("detail").focus({ preventScroll: true });
    at("detail").scrollIntoView();
  }
}

/** Tell a screen reader what matters: another category, an anomaly that begins or is over. Not every score. */
function announce(lasting) {
  const { record } = chosen;
  const anomalies = lasting.map(({ record: { severity, anomaly_type: type } }) => `${words(severity)}: ${words(type)}`);
  const now = `${record.session_id} is ${words(record.category)}. ${anomalies.join(". ") || "No anomaly"}.`;
  if (told !== "" && told !== now) write(at("news"), now);
  told = now;
}
