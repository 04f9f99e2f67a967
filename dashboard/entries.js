// What the chosen session's streams show: emotions, interventions and hand-offs, each on a list of its own.

import { delivery, forOrganiser, outcomesById, showDelivery } from "./delivery.js";
import { at, capital, clock, element, mark, percent, words, write } from "./dom.js";

const MOST_ENTRIES = 50;

/** Draw the streams and what became of the interventions. */
export function showStreams(record, { emotions, interventions, outcomes, handoffs }) {
  const became = outcomesById(outcomes.of(record));
  const its = interventions.of(record);
  const which = at("which").value;
  const chosen = its.filter(({ status }) => which === "" || status === which);
  show(at("emotions"), emotions.of(record), emotionEntry);
  show(at("interventions"), chosen, (entry) => interventionEntry(entry, became.get(entry.id)));
  show(at("handoffs"), handoffs.of(record), handoffEntry);
  showDelivery(delivery(its, became));
}

/** Bring a list up to date: only entries that say something else are made anew. */
function show(list, records, entryOf) {
  const section = list.parentElement;
  const shown = records.slice(0, MOST_ENTRIES);
  section.querySelector(".note").hidden = shown.length > 0;
  write(section.querySelector(".count"), records.length > 0 ? String(records.length) : "");
  const kept = new Map([...list.children].map((item) => [item.dataset.entry, item]));
  const items = shown.map((record) => {
    const entry = entryOf(record);
    const known = JSON.stringify([record.id, entry]);
    return kept.get(known) ?? newEntry(record, entry, known);
  });
  if (items.length !== list.children.length || items.some((item, i) => item !== list.children[i])) {
    list.replaceChildren(...items);
  }
}

function newEntry(record, { title, label, tone, text }, known) {
  const item = element("li", "entry");
  const time = element("time", "sub", clock(record.ts));
  time.dateTime = new Date(record.ts).toISOString();
  const tag = element("span", "tag", label);
  mark(tag, "tone", tone);
  item.append(element("span", "what", title), tag, time, element("span", "sub text", text));
  item.dataset.entry = known;
  return item;
}

function emotionEntry({ emotion, confidence, user_id: user, rule }) {
  return {
    title: capital(words(emotion)),
    label: `${percent(confidence)} confidence`,
    tone: undefined,
    text: `${user} · by ${words(rule)}`,
  };
}

const LATEST = ["converted", "clicked", "dismissed", "shown", "delivered", "failed"];

function interventionEntry(record, became) {
  const { intervention, status, reason, user_id: user, recipient, trigger, priority } = record;
  const outcome = forOrganiser(record) ? "for the organiser" : LATEST.find((name) => became?.has(name));
  const why = reason ? `: ${words(reason)}` : "";
  const after = status !== "fired" ? "" : ` · ${outcome ?? "no client connected"}`;
  return {
    title: capital(words(intervention)),
    label: status + why,
    tone: status,
    text: `${priority.toLowerCase()} · for ${user ?? recipient} · after ${words(trigger.name)}${after}`,
  };
}

function handoffEntry({ conversation_id: conversation, reason, confidence_score: score, confidence_level: level }) {
  return {
    title: `Conversation ${conversation}`,
    label: words(reason),
    tone: "pending",
    text: `confidence ${score.toFixed(2)} (${words(level)})`,
  };
}
