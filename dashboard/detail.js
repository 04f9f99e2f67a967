// The chosen session: what is the matter with it, its score now, its signals, and why the score is what it is.

import { draw } from "./chart.js";
import { at, capital, clock, element, mark, percent, signed, words, write } from "./dom.js";

const MINUTE_MS = 60_000;
const TERMS = [
  ["chat", "Chat"],
  ["poll", "Poll"],
  ["active", "Active users"],
  ["reactions", "Reactions"],
  ["leaves", "Leaving"],
];
const CARDS = [
  ["chat_per_min", "Chat", "/ min", String],
  ["active_users", "Active users", "", String],
  ["poll_participation", "Poll participation", "", percent],
  ["reactions_per_min", "Reactions", "/ min", String],
];

/** Draw everything about a session but its streams; `alarms` are its anomalies that last. */
export function showDetail({ record, points, ended }, alarms) {
  const { signals, score, category } = record;
  write(at("detail-title"), record.session_id);
  const here = `${signals.connected_users} ${signals.connected_users === 1 ? "person" : "people"} here now`;
  write(at("detail-sub"), `${record.tenant_id} · ${here} · as of ${clock(record.ts)}`);
  write(at("score"), score.toFixed(2));
  write(at("category"), words(category));
  mark(at("category"), "category", category);
  const before = points.findLast((point) => point.ts <= record.ts - MINUTE_MS);
  write(at("trend"), before ? `${signed(score - before.score, 2)} in a minute` : "");
  at("ended").hidden = !ended;
  showAlarms(alarms);
  showCards(signals, before);
  draw(points);
  showWhy(record);
}

function showAlarms(alarms) {
  const list = at("alarms");
  while (list.children.length > alarms.length) list.lastElementChild.remove();
  alarms.forEach(({ record, since }, i) => {
    const banner = list.children[i] ?? list.appendChild(newBanner());
    const [severity, name, figures] = banner.children;
    mark(banner, "severity", record.severity);
    write(severity, record.severity);
    write(name, capital(words(record.anomaly_type)));
    const [current, expected] = [record.current, record.expected].map((value) => value.toFixed(2));
    const change = signed(-record.deviation, 2);
    write(figures, `now ${current}, expected ${expected} (${change}), polls left out · since ${clock(since)}`);
  });
}

function newBanner() {
  const banner = element("p", "banner");
  banner.append(element("strong"), element("span", "what"), element("span"));
  return banner;
}

function showCards(signals, before) {
  const cards = at("cards");
  if (cards.children.length === 0) {
    for (const [, name, unit] of CARDS) {
      const card = element("div", "panel card");
      const value = element("dd");
      value.append(element("span", "figure"), element("span", "sub", unit && ` ${unit}`));
      card.append(element("dt", "", name), value, element("dd", "sub"));
      cards.append(card);
    }
  }
  CARDS.forEach(([key, , , format], i) => {
    const [, value, context] = cards.children[i].children;
    write(value.firstElementChild, format(signals[key]));
    write(context, contextOf(key, signals, before));
  });
  write(cards.children[1].children[1].lastElementChild, ` in 60 s · ${signals.connected_users} here now`);
}

function contextOf(key, signals, before) {
  if (key === "poll_participation" && signals[key] === 0) return "no poll, or no vote yet";
  if (!before) return "";
  const change = signals[key] - before[key];
  if (change === 0) return "unchanged in a minute";
  const amount = key === "poll_participation" ? percent(Math.abs(change)) : String(Math.abs(change));
  return `${change > 0 ? "▲" : "▼"} ${amount} in a minute`;
}

function showWhy({ contributions, score }) {
  const list = at("why");
  if (list.children.length === 0) {
    for (const [, name] of TERMS) {
      const row = element("div");
      const bar = element("dd", "bar");
      bar.append(element("span"));
      bar.setAttribute("aria-hidden", "true");
      row.append(element("dt", "", name), bar, element("dd", "amount"));
      list.append(row);
    }
  }
  const largest = Math.max(0.3, ...TERMS.map(([key]) => Math.abs(contributions[key])));
  TERMS.forEach(([key], i) => {
    const [, bar, amount] = list.children[i].children;
    bar.classList.toggle("minus", contributions[key] < 0);
    bar.firstElementChild.style.width = `${(Math.abs(contributions[key]) / largest) * 100}%`;
    write(amount, signed(contributions[key], 3));
  });
  const sum = TERMS.reduce((total, [key]) => total + contributions[key], 0);
  const cut = Math.abs(sum - score) > 0.0005 ? `, kept within 0 and 1: ${score.toFixed(3)}` : "";
  write(at("sum"), `These add up to ${sum.toFixed(3)}${cut}.`);
}
