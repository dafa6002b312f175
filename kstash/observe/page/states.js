// States of workers and tasks: each told by a word and by a colour.

import { h } from "./dom.js";

const KINDS = { live: "good", unreachable: "bad" };

/** The class of a state: good, busy or bad. */
export function kind(state) {
  return KINDS[state] ?? "busy";
}

/** A state, or what is said in its place, with the state's colour. */
export function stateOf(state, text = state) {
  return h("span", { class: `state ${kind(state)}` }, text);
}
