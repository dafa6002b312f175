// States of workers and tasks: each shown by a word and by a colour.

import { h } from "./dom.js";

const KINDS = { live: "good", unreachable: "bad" };

/** The class of a state: good, busy or bad. */
export function kind(state) {
  return KINDS[state] ?? "busy";
}

/** How many are in each state: `3 live, 1 recovering`. */
export function counted(items) {
  const counts = new Map([["live", 0]]); // people want this one: it stands first
  for (const { state } of items) counts.set(state, (counts.get(state) ?? 0) + 1);
  return [...counts]
    .filter(([, number]) => number > 0)
    .map(([state, number]) => `${number} ${state}`)
    .join(", ");
}

/** A state, or a text in its place, with the state's colour. */
export function stateOf(state, text = state) {
  return h("span", { class: `state ${kind(state)}` }, text);
}
