// The score of the last five minutes as an area in the colours of its categories, drawn by Plotly.
// The library is large and comes late: until then, and without it, the same numbers are in the table below the chart.

import { at, clock, element, words, write } from "./dom.js";
import { SPAN_MS } from "./sessions.js";

const CRITICAL = 0.3;
const GAP_MS = 20_000; // ticks come every 5 s; a longer silence is not drawn over
const MINUTES = [-5, -4, -3, -2, -1, 0];
const CONFIG = { displayModeBar: false, scrollZoom: false, doubleClick: false, showTips: false };

let shown = []; // the points on the chart
const probe = at("chart").parentElement.appendChild(element("span"));

/** Draw `points` ({ts, score, category}, oldest first), or keep them for when the library is there. */
export function draw(points) {
  shown = points;
  if (at("table").open) fillTable();
  if (window.Plotly && points.length > 0) {
    at("chart-note").hidden = true;
    window.Plotly.react(at("chart"), traces(points), layout(points), CONFIG);
    at("chart").setAttribute("aria-label", describe(points));
  }
}

/** Call once: loads the library, and draws when it arrives, the width changes, or the table is opened. */
export function watchChart() {
  const redraw = () => draw(shown);
  at("chart-again").addEventListener("click", load);
  at("table").addEventListener("toggle", redraw);
  new ResizeObserver(redraw).observe(at("chart"));
  load();
}

function load() {
  at("chart-again").hidden = true;
  write(at("chart-text"), "Loading the chart");
  const script = element("script");
  script.src = at("chart").dataset.library;
  script.addEventListener("load", () => draw(shown));
  script.addEventListener("error", () => {
    script.remove();
    at("chart-again").hidden = false;
    at("table").open = true;
    write(at("chart-text"), "The chart's library could not be loaded. The numbers are in the table.");
  });
  document.head.append(script);
}

function traces(points) {
  const end = points.at(-1).ts;
  const minutes = (point) => (point.ts - end) / 60_000;
  const areas = runs(points).map((run) => ({
    x: run.points.map(minutes),
    y: run.points.map((point) => point.score),
    mode: run.points.length > 1 ? "lines" : "markers",
    line: { color: tone(run.category), width: 2.5, shape: "linear" },
    marker: { color: tone(run.category), size: 4 },
    fill: "tozeroy",
    fillcolor: tone(run.category, 0.34),
    hoverinfo: "skip",
  }));
  const every = {
    x: points.map(minutes),
    y: points.map((point) => point.score),
    text: points.map((point) => `${clock(point.ts)} ${words(point.category)}`),
    mode: "markers",
    marker: { size: points.map((point) => (point.ts === end ? 9 : 0.1)), color: tone(points.at(-1).category) },
    hovertemplate: "%{y:.2f} %{text}<extra></extra>",
  };
  return [...areas, every];
}

function layout(points) {
  const text = { color: colour("--soft"), size: 12, family: "system-ui, sans-serif" };
  const axis = { fixedrange: true, zeroline: false, gridcolor: colour("--line"), tickfont: text };
  const narrow = at("chart").clientWidth < 480;
  return {
    width: at("chart").clientWidth,
    height: at("chart").clientHeight,
    margin: { l: 34, r: 20, t: 10, b: 32 },
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    showlegend: false,
    hovermode: "x",
    dragmode: false,
    font: text,
    hoverlabel: { bgcolor: colour("--panel"), bordercolor: colour("--soft"), font: { ...text, color: colour("--text") } },
    xaxis: {
      ...axis,
      range: [-SPAN_MS / 60_000, 0.03],
      showgrid: false,
      ticks: "outside",
      ticklen: 7,
      tickcolor: "transparent",
      tickvals: narrow ? [-5, -3, -1, 0] : MINUTES,
      ticktext: (narrow ? [-5, -3, -1, 0] : MINUTES).map((minute) => (minute === 0 ? "now" : `−${-minute} min`)),
    },
    yaxis: { ...axis, range: [0, 1.02], tickvals: [0, 0.2, 0.4, 0.6, 0.8, 1], tickformat: ".1f" },
    shapes: [
      {
        ...{ type: "line", xref: "paper", x0: 0, x1: 1, y0: CRITICAL, y1: CRITICAL },
        line: { color: colour("--very-low"), width: 1.5, dash: "dash" },
      },
    ],
    annotations: [
      {
        ...{ xref: "paper", x: 0, xanchor: "left", y: CRITICAL, yanchor: "bottom", showarrow: false },
        text: narrow ? `critical ${CRITICAL}` : `critical: below ${CRITICAL} a session needs help`,
        font: { ...text, color: colour("--critical-text") },
        bgcolor: "transparent",
      },
    ],
  };
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
  const [low, high] = [Math.min(...scores), Math.max(...scores)].map((score) => score.toFixed(2));
  const below = scores.filter((score) => score < CRITICAL).length;
  const critical = below > 0 ? `, below the critical ${CRITICAL} at ${below} of ${scores.length} ticks` : "";
  return `Score of the last 5 minutes: between ${low} and ${high}, now ${scores.at(-1).toFixed(2)}${critical}`;
}

function fillTable() {
  const rows = shown.toReversed().map((point) => {
    const row = element("tr");
    const time = element("th", "", clock(point.ts));
    time.scope = "row";
    row.append(
      time,
      element("td", "", point.score.toFixed(2)),
      element("td", "", words(point.category)),
      element("td", "", String(point.chat_per_min)),
      element("td", "", String(point.active_users)),
      element("td", "", String(point.reactions_per_min)),
    );
    return row;
  });
  at("points").replaceChildren(...rows);
}

function tone(category, opacity = 1) {
  return colour(`--${category.toLowerCase().replace("_", "-")}`, opacity);
}

/** Return a colour of the style sheet as it is now, dark or light: the library knows no variables. */
function colour(name, opacity = 1) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color.replace(/^rgb\((.*)\)$/, `rgba($1, ${opacity})`);
}
