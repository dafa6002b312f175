// The newest checkpoint of each task, on its disk and in the checkpoint store.

import { h, number, table } from "./dom.js";
import { UNKNOWN, ago, count } from "./format.js";

// More are shown on demand: the oldest checkpoints matter most.
const ROWS_OPEN_MAX = 12;

function row(checkpoint) {
  return h(
    "tr",
    null,
    h("th", { scope: "row", class: "code" }, checkpoint.task),
    number(count(checkpoint.position), { class: "wide-only" }),
    number(ago(checkpoint.age_seconds)),
    number(count(checkpoint.remote_position), { class: "wide-only" }),
    number(ago(checkpoint.remote_age_seconds)),
    h("td", { class: "code soft wide-only" }, checkpoint.worker),
  );
}

/** The age of the oldest one; a dash when it is not known. */
function oldest(view, name) {
  const ages = view.checkpoints.map((checkpoint) => checkpoint[name]).filter((age) => typeof age === "number");
  return ages.length > 0 ? ago(Math.max(...ages)) : UNKNOWN;
}

export const checkpoints = {
  id: "checkpoints",
  title: "Checkpoints",
  draw(view) {
    if (view.checkpoints.length === 0) return h("p", { class: "soft" }, "None yet.");
    const rows = [...view.checkpoints].sort((a, b) => a.task.localeCompare(b.task, "en", { numeric: true }));
    return h(
      "details",
      { open: rows.length <= ROWS_OPEN_MAX },
      h(
        "summary",
        null,
        `Oldest on disk ${oldest(view, "age_seconds")}, oldest remote ${oldest(view, "remote_age_seconds")}`,
      ),
      table(
        "Table of checkpoints",
        [
          ["Task"],
          ["Position on disk", { class: "number wide-only" }],
          ["On disk", { class: "number" }],
          ["Position remote", { class: "number wide-only" }],
          ["Remote", { class: "number" }],
          ["Worker", { class: "wide-only" }],
        ],
        h("tbody", null, rows.map(row)),
      ),
    );
  },
};
