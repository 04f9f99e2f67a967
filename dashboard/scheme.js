// Dark or light: the system's choice unless another one was made on this page.

import { at } from "./dom.js";

const KEY = "attune-scheme";

/** Apply the choice, and call `onChange` when the colours have changed. */
export function watchScheme(onChange) {
  const apply = () => {
    document.documentElement.style.colorScheme = at("scheme").value;
    onChange();
  };
  at("scheme").value = localStorage.getItem(KEY) ?? "";
  document.documentElement.style.colorScheme = at("scheme").value;
  at("scheme").addEventListener("change", () => {
    localStorage.setItem(KEY, at("scheme").value);
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", onChange);
}
