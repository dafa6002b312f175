// The newest warnings and errors of all workers' logs, each with its place.

import { h } from "./dom.js";
import { ago, clock } from "./format.js";

function item(error, view) {
  return h(
    "li",
    null,
    h("p", { class: "soft" }, `${clock(view.now - error.age * 1000)}, ${ago(error.age)} · ${error.worker} · ${error.logger}`),
    h("p", null, h("b", null, error.event), error.place ? [" at ", h("span", { class: "code" }, error.place)] : null),
    error.error ? h("pre", { class: "code" }, error.error) : null,
  );
}

export const complaints = {
  id: "errors",
  title: "Warnings and errors",
  draw(view) {
    if (view.errors.length === 0) return h("p", { class: "soft" }, "None in the logs of these workers.");
    return h("ol", { class: "errors" }, view.errors.slice(0, 30).map((error) => item(error, view)));
  },
};
