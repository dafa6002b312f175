// States of workers and tasks: each told by a word and by a colour.

import { h } from "./dom.js";

const KINDS = { live: "good", unreachable: "bad" };

/** The class of a state: good, busy or bad. */
export function kind(state) {
  return KINDS[state] ?? "busy";
}

/** How many of what is in states are in which: `3 live, 1 recovering`. */
export function counted(items) {
  const counts = new Map([["live", 0]]); // the one that is looked for stands first
  for (const { state } of items) counts.set(state, (counts.get(state) ?? 0) + 1);
  return [...counts]
    .filter(([, number]) => number > 0)
    .map(([state, number]) => `${number} ${state}`)
    .join(", ");
}

/** A state, or what is said in its place, with the state's colour. */
export function stateOf(state, text = state) {
  return h("span", { class: `state ${kind(state)}` }, text);
}
