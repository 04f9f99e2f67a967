// The page: a list of sessions, and of the chosen one its score over time and why it is what it is.

import { clock, draw } from "./chart.js";
import { Feed } from "./feed.js";
import { Sessions } from "./sessions.js";

const MOST_ROWS = 200;
const CATEGORIES = ["VERY_HIGH", "HIGH", "MODERATE", "LOW", "VERY_LOW"];
const TERMS = [
  ["chat", "Chat"],
  ["poll", "Poll"],
  ["active", "Active users"],
  ["reactions", "Reactions"],
  ["leaves", "Leaving"],
];
const SIGNALS = [
  ["chat_per_min", "Chat messages a minute", String],
  ["reactions_per_min", "Reactions a minute", String],
  ["connected_users", "Connected users", String],
  ["active_users", "Active users", String],
  ["active_ratio", "Active share", percent],
  ["poll_participation", "Poll participation", percent],
  ["leave_rate", "Leave rate", percent],
];

const at = (id) => document.getElementById(id);
const sessions = new Sessions();
const rows = new Map(); // what is on the list: key -> {item, update}
let chosen = null;
let gateway = null; // the run of the gateway that the sessions are from
let told = null; // the category that was last told of the chosen session
let waiting = false;

const feed = new Feed(address(), ["engagement", "sessions"], { onState: showState, onMessage: take });

at("order").addEventListener("change", refresh);
at("find").addEventListener("input", refresh);
at("sessions").addEventListener("keydown", moveFocus);
new ResizeObserver(refresh).observe(at("chart"));
at("legend").append(
  ...CATEGORIES.map((category) => {
    const item = element("li", "", words(category));
    item.dataset.category = category;
    return item;
  }),
);
feed.connect();

function address() {
  const url = new URL("/ws", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

function take(message) {
  if (message.op === "hello" && message.gateway !== gateway) {
    gateway = message.gateway;
    sessions.clear();
  } else if (message.op === "record" && message.record.type === "engagement") {
    sessions.add(message.record);
  } else if (message.op === "record" && message.record.type === "session") {
    sessions.end(message.record);
  } else if (message.op === "error") {
    console.warn("gateway:", message.code, message.message);
  }
  refresh();
}

/** Draw soon, and once for however much has changed by then. */
function refresh() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    showList();
    showChosen();
  });
}

function showState(state, seconds) {
  const words = { connecting: "Connecting", live: "Live", reconnecting: `Reconnecting in ${Math.ceil(seconds)} s` };
  at("state").textContent = words[state];
  at("state").dataset.state = state;
}

function showList() {
  const found = sessions.sorted(at("order").value, at("find").value);
  const shown = found.slice(0, MOST_ROWS);
  if (chosen === null && shown.length > 0) choose(shown[0]);

  at("count").textContent = sessions.size > 0 ? String(sessions.size) : "";
  at("empty").hidden = found.length > 0;
  at("empty").textContent = sessions.size > 0 ? "No session has this name." : "Waiting for the first records.";
  at("more").hidden = found.length === shown.length;
  at("more").textContent = `${found.length - shown.length} more are not shown: look for them by name.`;

  const keys = new Set(shown.map((session) => session.key));
  for (const [key, row] of rows) {
    if (!keys.has(key)) {
      row.item.remove();
      rows.delete(key);
    }
  }
  const list = at("sessions");
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  shown.forEach((session, i) => {
    const row = rows.get(session.key) ?? newRow(session.key);
    row.update(session);
    // Moving a node costs its focus and its scroll position, so only what stands wrong is moved.
    if (list.children[i] !== row.item) list.insertBefore(row.item, list.children[i] ?? null);
  });
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
}

function newRow(key) {
  const item = document.createElement("li");
  const button = element("button", "row");
  const name = element("span", "name");
  const value = element("span", "value");
  const bar = element("span", "bar");
  const fill = element("span");
  const where = element("span", "sub where");
  const category = element("span", "sub");
  button.type = "button";
  button.addEventListener("click", () => {
    const session = sessions.get(key);
    if (session) choose(session);
    refresh();
  });
  bar.append(fill);
  button.append(name, value, bar, where, category);
  item.append(button);
  const row = {
    item,
    update({ record }) {
      write(name, record.session_id);
      write(value, record.score.toFixed(2));
      write(where, `${record.tenant_id} · ${clock(record.ts)}`);
      write(category, words(record.category));
      fill.style.width = `${record.score * 100}%`;
      button.dataset.category = record.category;
      button.setAttribute("aria-pressed", String(chosen?.key === key));
    },
  };
  rows.set(key, row);
  return row;
}

function choose(session) {
  chosen = session;
  told = session.record.category;
}

function showChosen() {
  if (chosen !== null) chosen = sessions.get(chosen.key) ?? chosen;
  at("nothing").hidden = chosen !== null;
  at("chosen").hidden = chosen === null;
  if (chosen === null) return;
  const { record, points, ended } = chosen;
  write(at("detail-title"), record.session_id);
  write(at("detail-sub"), `${record.tenant_id} · ${clock(record.ts)}`);
  write(at("score"), record.score.toFixed(2));
  write(at("category"), words(record.category));
  at("category").dataset.category = record.category;
  at("ended").hidden = !ended;
  draw(at("chart"), points);
  showWhy(record);
  showSignals(record.signals);
  if (told !== record.category) {
    told = record.category;
    at("news").textContent = `${record.session_id} is now ${words(record.category)}`;
  }
}

function showWhy({ contributions, score }) {
  const list = at("why");
  if (list.children.length === 0) {
    for (const [, name] of TERMS) {
      const bar = element("dd", "bar");
      bar.append(element("span"));
      bar.setAttribute("aria-hidden", "true");
      list.append(element("dt", "", name), bar, element("dd", "amount"));
    }
  }
  const largest = Math.max(0.3, ...TERMS.map(([key]) => Math.abs(contributions[key])));
  TERMS.forEach(([key], i) => {
    const [bar, amount] = [list.children[3 * i + 1], list.children[3 * i + 2]];
    bar.classList.toggle("minus", contributions[key] < 0);
    bar.firstElementChild.style.width = `${(Math.abs(contributions[key]) / largest) * 100}%`;
    write(amount, signed(contributions[key]));
  });
  const sum = TERMS.reduce((total, [key]) => total + contributions[key], 0);
  const cut = Math.abs(sum - score) > 0.0005 ? `, kept within 0 and 1: ${score.toFixed(3)}` : "";
  write(at("sum"), `These add up to ${sum.toFixed(3)}${cut}.`);
}

function showSignals(signals) {
  const list = at("signals");
  if (list.children.length === 0) {
    for (const [, name] of SIGNALS) list.append(element("dt", "", name), element("dd"));
  }
  SIGNALS.forEach(([key, , format], i) => write(list.children[2 * i + 1], format(signals[key])));
}

/** Let the arrow keys, Home and End go through the list. */
function moveFocus(event) {
  const buttons = [...at("sessions").querySelectorAll("button")];
  const i = buttons.indexOf(document.activeElement);
  const target = { ArrowDown: i + 1, ArrowUp: i - 1, Home: 0, End: buttons.length - 1 }[event.key];
  if (i < 0 || target === undefined || !buttons[target]) return;
  event.preventDefault();
  buttons[target].focus();
}

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** Set a text if it is another one: the browser then has nothing to lay out again. */
function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

function words(category) {
  return category.toLowerCase().replace("_", " ");
}

function percent(ratio) {
  return `${(ratio * 100).toFixed(ratio > 0 && ratio < 0.1 ? 1 : 0)} %`;
}

function signed(value) {
  const text = Math.abs(value).toFixed(3);
  if (text === "0.000") return text;
  return value < 0 ? `−${text}` : `+${text}`;
}
