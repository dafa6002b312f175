// Operators that go by time, or that drop records: over the tasks of all workers.

import { h, number, table } from "./dom.js";
import { UNKNOWN, clock, count, duration, short } from "./format.js";

// So much ahead of the clock, a record of the future is likely: windows close too early.
const AHEAD_S_MAX = 60;

function time(operator) {
  if (operator.streamTime === null) return h("td", null, UNKNOWN);
  return h("td", null, clock(operator.streamTime * 1000));
}

function distance(operator) {
  if (operator.behind === null) return number(UNKNOWN);
  if (operator.ahead > AHEAD_S_MAX) return number(`${duration(operator.ahead)} ahead`, { class: "busy" });
  return number(duration(Math.max(0, operator.behind)));
}

function dropped(operator) {
  const reasons = [...operator.dropped].filter(([, records]) => records > 0);
  return reasons.map(([reason, records]) => `${count(records)} ${reason}`).join(", ") || "none";
}

function heldBy({ heldBy: held }) {
  return held === null ? "nothing" : `${held.text}, for ${duration(held.seconds)}`;
}

function row(operator) {
  return h(
    "tr",
    null,
    h("th", { scope: "row", class: "code" }, operator.operator),
    h("td", { class: "code soft wide-only" }, operator.stage),
    time(operator),
    distance(operator),
    h("td", { class: "soft wrap" }, heldBy(operator)),
    number(short(operator.windows), { title: count(operator.windows) }),
    number(short(operator.timers), { title: count(operator.timers) }),
    h("td", { class: "soft" }, dropped(operator)),
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
      h("tbody", null, view.operators.map(row)),
    );
  },
};
