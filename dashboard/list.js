// The list of sessions: bounded, in an order that holds still while somebody is about to choose.

import { at, clock, element, mark, words, write } from "./dom.js";

const MOST_ROWS = 200;
const canHover = matchMedia("(hover: hover)");

const rows = new Map(); // what is on the list: key -> {item, update}
let asked = ""; // order and text that the list was last drawn for

/** Draw the sessions that are asked for; `onChoose(key)` is called for the one that is clicked. */
export function showList(sessions, alarms, chosen, live, onChoose) {
  const list = at("sessions");
  const found = sessions.sorted(at("order").value, at("find").value, alarms);
  const shown = holdStill(list, found).slice(0, MOST_ROWS);

  write(at("count"), sessions.size > 0 ? String(sessions.size) : "");
  at("empty").hidden = found.length > 0;
  write(at("empty"), sessions.size > 0 ? "No session has this name." : live ? "None yet." : "Loading…");
  at("more").hidden = found.length <= shown.length;
  write(at("more"), `${found.length - shown.length} more are not shown: look for them by name.`);

  const keys = new Set(shown.map((session) => session.key));
  for (const [key, row] of rows) {
    if (!keys.has(key)) {
      row.item.remove();
      rows.delete(key);
    }
  }
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  shown.forEach((session, i) => {
    const row = rows.get(session.key) ?? newRow(session.key, onChoose);
    row.update(session, alarms.severity(session.key), session.key === chosen?.key);
    // Moving a node costs its focus and its scroll position, so only what stands wrong is moved.
    if (list.children[i] !== row.item) list.insertBefore(row.item, list.children[i] ?? null);
  });
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
}

/** While pointer or keyboard is on the list, what is there keeps its place and what is new comes after it. */
function holdStill(list, found) {
  const asks = `${at("order").value}/${at("find").value}`;
  // A click leaves the focus there, and a finger the hover: neither is about to choose.
  const busy = (canHover.matches && list.matches(":hover")) || list.querySelector(":focus-visible") !== null;
  const still = asks === asked && busy;
  asked = asks;
  if (!still) return found;
  const places = new Map([...rows.entries()].map(([key, { item }]) => [key, [...list.children].indexOf(item)]));
  const place = (session) => places.get(session.key) ?? Infinity;
  return found.toSorted((a, b) => (place(a) === place(b) ? 0 : place(a) - place(b)));
}

function newRow(key, onChoose) {
  const item = document.createElement("li");
  const button = element("button", "row");
  const name = element("span", "name");
  const value = element("span", "value");
  const bar = element("span", "bar");
  const fill = element("span");
  const where = element("span", "sub where");
  const category = element("span", "sub");
  const alarm = element("span", "alarm");
  button.type = "button";
  button.addEventListener("click", () => onChoose(key));
  bar.append(fill);
  button.append(name, alarm, value, bar, where, category);
  item.append(button);
  const row = {
    item,
    update({ record }, severity, chosen) {
      const people = record.signals.connected_users;
      write(name, record.session_id);
      write(value, record.score.toFixed(2));
      write(where, `${record.tenant_id} · ${people} ${people === 1 ? "person" : "people"}`);
      write(category, words(record.category));
      write(alarm, ["", "warning", "critical"][severity]);
      mark(button, "severity", ["", "WARNING", "CRITICAL"][severity] || undefined);
      fill.style.width = `${record.score * 100}%`;
      mark(button, "category", record.category);
      button.title = `last score at ${clock(record.ts)}`;
      button.setAttribute("aria-current", String(chosen));
    },
  };
  rows.set(key, row);
  return row;
}

/** Let the arrow keys, Home and End go through the list. */
export function moveFocus(event) {
  const buttons = [...at("sessions").querySelectorAll("button")];
  const i = buttons.indexOf(document.activeElement);
  const target = { ArrowDown: i + 1, ArrowUp: i - 1, Home: 0, End: buttons.length - 1 }[event.key];
  if (i < 0 || target === undefined || !buttons[target]) return;
  event.preventDefault();
  buttons[target].focus();
}
