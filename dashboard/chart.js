// Draws a session's score as a line in the colours of its categories.

import { SPAN_MS } from "./sessions.js";

const SVG = "http://www.w3.org/2000/svg";
const GAP_MS = 20_000; // ticks come every 5 s; a longer silence is not drawn over
const EDGE = { left: 34, right: 12, top: 8, bottom: 22 };
const LEVELS = [0, 0.2, 0.4, 0.6, 0.8, 1];

/** Draw `points` ({ts, score, category}, oldest first) into an svg element as wide as it is shown. */
export function draw(svg, points) {
  const width = svg.clientWidth || 600;
  const height = svg.clientHeight || 240;
  const end = points.at(-1).ts;
  const x = (ts) => EDGE.left + ((ts - end + SPAN_MS) / SPAN_MS) * (width - EDGE.left - EDGE.right);
  const y = (score) => height - EDGE.bottom - score * (height - EDGE.top - EDGE.bottom);

  const parts = [];
  for (const level of LEVELS) {
    parts.push(make("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(level), y2: y(level) }));
    parts.push(label(level.toFixed(1), EDGE.left - 6, y(level) + 4, "end"));
  }
  for (let minute = 5; minute >= 0; minute -= 1) {
    const text = minute === 0 ? "now" : minute === 5 ? "−5 min" : `−${minute}`;
    const anchor = minute === 0 ? "end" : minute === 5 ? "start" : "middle";
    parts.push(label(text, x(end - minute * 60_000), height - 6, anchor));
  }
  for (const run of runs(points)) {
    const line = make("polyline", { points: run.points.map((p) => `${x(p.ts)},${y(p.score)}`).join(" ") });
    line.dataset.category = run.category;
    parts.push(line);
  }
  const last = make("circle", { cx: x(end), cy: y(points.at(-1).score), r: 4 });
  last.dataset.category = points.at(-1).category;
  parts.push(last);

  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-label", describe(points));
  svg.replaceChildren(...parts);
}

export function clock(ts) {
  return new Date(ts).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

/** Cut the line where the category changes (the pieces share a point) and where nothing came for a while. */
function runs(points) {
  const found = [];
  let run = null;
  for (const [i, point] of points.entries()) {
    const before = points[i - 1];
    if (before && point.ts - before.ts > GAP_MS) run = null;
    if (run === null) {
      run = { category: point.category, points: [point] };
      found.push(run);
    } else if (run.category === point.category) {
      run.points.push(point);
    } else {
      run = { category: point.category, points: [before, point] };
      found.push(run);
    }
  }
  return found;
}

function describe(points) {
  const scores = points.map((point) => point.score);
  const now = points.at(-1);
  const [low, high] = [Math.min(...scores), Math.max(...scores)].map((score) => score.toFixed(2));
  return `Score between ${low} and ${high} in the last 5 minutes, now ${now.score.toFixed(2)}`;
}

function label(text, x, y, anchor) {
  const element = make("text", { x, y, "text-anchor": anchor });
  element.textContent = text;
  return element;
}

function make(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
