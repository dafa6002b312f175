// Operators that go by time, or that drop records: over the tasks of all workers.

import { h, number, table } from "./dom.js";
import { UNKNOWN, clock, count, duration, short } from "./format.js";
import { timing } from "./graph.js";

// So much ahead of the clock, a record of the future is likely: windows close too early.
const AHEAD_S_MAX = 60;

function time(operator) {
  return h("td", { "data-name": "stream time" }, operator.streamTime === null ? UNKNOWN : clock(operator.streamTime * 1000));
}

function distance(operator) {
  const isAhead = operator.behind !== null && operator.ahead > AHEAD_S_MAX;
  const text = isAhead ? `${duration(operator.ahead)} ahead` : duration(operator.behind === null ? null : Math.max(0, operator.behind));
  return number(text, { class: isAhead ? "busy" : null, "data-name": "behind" });
}

function dropped(operator) {
  const reasons = [...operator.dropped].filter(([, records]) => records > 0);
  return reasons.map(([reason, records]) => `${count(records)} ${reason}`).join(", ") || "none";
}

function heldBy({ heldBy: held }) {
  return held === null ? "nothing" : `${held.text}, for ${duration(held.seconds)}`;
}

/** What the program says of its windows and timers; null where `/topology` is not known. */
function declared({ operator, stage }, topology) {
  const nodes = topology?.stages?.find(({ name }) => name === stage)?.nodes ?? [];
  const node = nodes.find(({ label }) => label === operator);
  const said = node === undefined ? "" : timing(node);
  return said === "" ? null : h("div", { class: "soft plain" }, said);
}

function row(operator, topology) {
  return h(
    "tr",
    null,
    h("th", { scope: "row", class: "code" }, operator.operator, declared(operator, topology)),
    h("td", { class: "code soft wide-only whole" }, operator.stage),
    time(operator),
    distance(operator),
    h("td", { class: "soft wrap", "data-name": "held back by" }, heldBy(operator)),
    number(short(operator.windows), { title: count(operator.windows), "data-name": "windows" }),
    number(short(operator.timers), { title: count(operator.timers), "data-name": "timers" }),
    h("td", { class: "soft", "data-name": "dropped" }, dropped(operator)),
  );
}

export const operators = {
  id: "operators",
  title: "Time, windows and timers",
  draw(view) {
    if (view.operators.length === 0) return null;
    return table(
      "Table of operators that go by time",
      [
        ["Operator"],
        ["Stage", { class: "wide-only" }],
        ["Stream time", { title: "of the task where it is least" }],
        ["Behind", { class: "number", title: "how far that is behind the clock" }],
        ["Held back by", { title: "in the task where stream time is least" }],
        ["Windows", { class: "number", title: "open, estimated" }],
        ["Timers", { class: "number", title: "pending, estimated" }],
        ["Dropped", { title: "records left out since the workers started, by why" }],
      ],
      h("tbody", null, view.operators.map((operator) => row(operator, view.topology))),
    );
  },
};
