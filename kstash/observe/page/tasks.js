// All tasks of all workers, each worker with a line of its own above its tasks.

import { h, number, table } from "./dom.js";
import { ago, count, duration, plural, rate, short } from "./format.js";
import { counted, stateOf } from "./states.js";

// Above so many, tasks that are live are shown on demand only.
const ROWS_MAX = 48;
const LAG_S_MAX = 10;
const shown = new Map();

function progress(task) {
  const awaited = task.waits_for ?? [];
  if (task.state === "live" && awaited.length > 0) {
    return stateOf(task.state, `waits ${duration(task.waits_seconds)} for ${awaited.join(", ")}`);
  }
  if (task.state !== "recovering" || !(task.replay_end > task.position)) return stateOf(task.state);
  return stateOf(task.state, `replaying to ${count(task.replay_end)}`);
}

function row(task) {
  const isLate = (task.lag_seconds ?? 0) > LAG_S_MAX;
  return h(
    "tr",
    null,
    h("th", { scope: "row", class: "code" }, task.name),
    h("td", { class: "wrap" }, progress(task)),
    number(count(task.position), { class: "wide-only" }),
    number(short(task.lag_records), { title: count(task.lag_records) }),
    number(duration(task.lag_seconds), { class: isLate ? "busy" : null }),
    number(count(task.checkpointed_position), { class: "wide-only" }),
    h("td", { class: "code soft wide-only" }, (task.inputs ?? []).join(", ")),
  );
}

function facts(worker) {
  if (worker.status === null) {
    const since = worker.unseen === null ? "" : `, last seen ${ago(worker.unseen)}`;
    return `${worker.error ?? "no answer"}${since}`;
  }
  const { status, last } = worker;
  const parts = [`up ${duration(Math.floor(status.uptime_seconds))}`, plural(status.tasks.length, "task")];
  if (last !== null) {
    parts.push(`in ${rate(last.records_in_per_second)}`, `out ${rate(last.records_out_per_second)}`);
    if (last.latency_seconds !== null) parts.push(`latency ${duration(last.latency_seconds)}`);
  }
  return parts.join(" · ");
}

/** In the order of the flow, which stages are in. */
function ordered(tasks, topology) {
  const order = new Map((topology?.stages ?? []).map(({ name }, index) => [name, index]));
  const place = ({ stage }) => order.get(stage) ?? order.size;
  return [...tasks].sort((a, b) => place(a) - place(b) || a.stage.localeCompare(b.stage) || a.partition - b.partition);
}

function body(worker, view, isLong) {
  const tasks = ordered(worker.status?.tasks ?? [], view.topology);
  const isOpen = shown.get(worker.id) ?? !isLong;
  const rows = isOpen ? tasks : tasks.filter((task) => task.state !== "live");
  const toggle = h(
    "button",
    {
      type: "button",
      class: "small",
      "aria-expanded": String(isOpen),
      onclick: () => {
        shown.set(worker.id, !isOpen);
        view.redraw();
      },
    },
    isOpen ? "only what is not live" : `all ${tasks.length} tasks`,
  );
  const spare = worker.status !== null && tasks.length === 0 ? "It has no tasks: it takes over when another worker ends." : null;
  const idle = worker.status?.waiting_for ?? spare;
  return h(
    "tbody",
    null,
    h(
      "tr",
      { class: "worker" },
      h(
        "th",
        { scope: "rowgroup", colspan: 7 },
        h("span", { class: "code" }, worker.name),
        " ",
        stateOf(worker.state),
        h("span", { class: "soft plain" }, worker.name === worker.address ? null : `${worker.address} · `, facts(worker)),
        isLong && tasks.length > 0 ? toggle : null,
      ),
    ),
    rows.map(row),
    idle === null ? null : h("tr", null, h("td", { colspan: 7, class: "soft" }, idle)),
  );
}

export const tasks = {
  id: "tasks",
  title: "Workers and tasks",
  draw(view) {
    const isLong = view.tasks.length > ROWS_MAX;
    const all = view.tasks.length > 0 ? `${plural(view.tasks.length, "task")}: ${counted(view.tasks)}.` : "No tasks.";
    const tasks = table(
      "Table of workers and tasks",
      [
        ["Task"],
        ["State"],
        ["Position", { class: "number wide-only", title: "events processed" }],
        ["Lag", { class: "number", title: "records before the ends of its inputs" }],
        ["Lag time", { class: "number", title: "age of what it processed last" }],
        ["Checkpoint", { class: "number wide-only", title: "position of the last checkpoint" }],
        ["Inputs", { class: "wide-only" }],
      ],
      view.workers.map((worker) => body(worker, view, isLong)),
    );
    return h("div", null, h("p", { class: "soft" }, all), tasks);
  },
};
