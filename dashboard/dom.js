// What every part of the page needs to show something: elements, texts, and how figures are written.

export const at = (id) => document.getElementById(id);

export function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** Set a text if it is another one: the browser then has nothing to lay out again, a screen reader nothing to say. */
export function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Set or remove (undefined) a data attribute, which the style sheet colours by. */
export function mark(target, name, value) {
  if (value === undefined) delete target.dataset[name];
  else if (target.dataset[name] !== value) target.dataset[name] = value;
}

export function words(name) {
  return name.toLowerCase().replaceAll("_", " ");
}

export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function percent(ratio) {
  return `${(ratio * 100).toFixed(ratio > 0 && ratio < 0.1 ? 1 : 0)} %`;
}

export function signed(value, digits) {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return value < 0 ? `−${text}` : `+${text}`;
}

export function clock(ts) {
  return new Date(ts).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

export function milliseconds(value) {
  return `${Math.round(value).toLocaleString("en")} ms`;
}

/** Return the middle of some numbers, undefined of none. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
