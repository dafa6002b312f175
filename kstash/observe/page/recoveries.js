// Each recovery on a time line of its own, all to one scale: what took how long, in its order.

import { h, s } from "./dom.js";
import { ago, clock, count, duration, plural } from "./format.js";

const PHASES = ["detect", "claim", "fence", "scan", "restore", "start", "replay"];
const MEANINGS = {
  detect: "until the partitions were assigned",
  claim: "the claim is in the lineage topic",
  fence: "the dead worker can write no more",
  scan: "lineage and ends of outputs are read",
  restore: "the last checkpoint is put in place",
  start: "the history goes on from here",
  replay: "what was done is done again",
};
const ROWS = 8;
let isWhole = false;

/** A round length of time of which the axis has three to six. */
export function step(seconds) {
  const power = 10 ** Math.floor(Math.log10(seconds / 3));
  return [1, 2, 5, 10].map((factor) => factor * power).find((length) => seconds / length <= 6);
}

function known(recovery) {
  const phases = recovery.phases ?? {};
  const others = Object.keys(phases).filter((name) => !PHASES.includes(name));
  return [...PHASES, ...others].map((name) => [name, phases[name] ?? 0]).filter(([, seconds]) => seconds > 0);
}

function percent(part, whole) {
  return `${((part / whole) * 100).toFixed(3)}%`;
}

function bar(recovery, whole) {
  let start = 0;
  const parts = known(recovery).map(([name, seconds]) => {
    const part = s(
      "rect",
      {
        class: `phase ${PHASES.includes(name) ? name : "other"}`,
        x: percent(start, whole),
        width: percent(seconds, whole),
        y: 0,
        height: 12,
      },
      s("title", null, `${name} ${duration(seconds)}`),
    );
    start += seconds;
    return part;
  });
  return s("svg", { class: "bar", "aria-hidden": "true" }, grid(whole), parts);
}

function ticks(whole) {
  const length = step(whole);
  return Array.from({ length: Math.floor(whole / length) + 1 }, (_, index) => index * length);
}

function grid(whole) {
  return ticks(whole).map((at) => s("line", { class: "grid", x1: percent(at, whole), x2: percent(at, whole), y1: 0, y2: 12 }));
}

function axis(whole) {
  return s(
    "svg",
    { class: "axis", "aria-hidden": "true" },
    ticks(whole).map((at) =>
      s(
        "text",
        { x: percent(at, whole), y: 11, "text-anchor": at === 0 ? "start" : at / whole > 0.94 ? "end" : "middle" },
        duration(at),
      ),
    ),
  );
}

function replayed(recovery) {
  return recovery.replayed === 0 ? "nothing replayed" : `${plural(recovery.replayed, "event")} replayed`;
}

function row(recovery, whole, view) {
  return h(
    "li",
    null,
    h(
      "div",
      null,
      h("p", null, h("b", null, `group ${recovery.group}`), ` in ${duration(recovery.seconds)}, `, replayed(recovery)),
      h("p", { class: "soft" }, `${clock(view.now - recovery.age * 1000)}, ${ago(recovery.age)} · ${recovery.worker}`),
    ),
    h(
      "div",
      null,
      bar(recovery, whole),
      h("p", { class: "soft phases" }, known(recovery).map(([name, seconds]) => `${name} ${duration(seconds)}`).join(" · ")),
    ),
  );
}

function legend(rows) {
  const used = new Set(rows.flatMap((recovery) => known(recovery).map(([name]) => name)));
  return h(
    "ul",
    { class: "legend" },
    PHASES.filter((name) => used.has(name)).map((name) =>
      h("li", { title: MEANINGS[name] }, s("svg", { class: "swatch", "aria-hidden": "true" }, s("rect", { class: `phase ${name}`, width: 10, height: 10 })), name),
    ),
  );
}

export const recoveries = {
  id: "recoveries",
  title: "Recoveries",
  draw(view) {
    const all = view.recoveries;
    if (all.length === 0) return h("p", { class: "soft" }, "None since these workers started.");
    const rows = isWhole ? all : all.slice(0, ROWS);
    const total = (recovery) => known(recovery).reduce((sum, [, seconds]) => sum + seconds, 0);
    const whole = Math.max(...rows.map((recovery) => Math.max(recovery.seconds, total(recovery))), 0.001) * 1.02;
    const toggle = h(
      "button",
      {
        type: "button",
        class: "small",
        "aria-expanded": String(isWhole),
        onclick: () => {
          isWhole = !isWhole;
          view.redraw();
        },
      },
      isWhole ? `the newest ${ROWS}` : `all ${count(all.length)}`,
    );
    return h(
      "div",
      null,
      h("div", { class: "scale" }, legend(rows), axis(whole)),
      h("ol", { class: "recoveries" }, rows.map((recovery) => row(recovery, whole, view))),
      all.length > ROWS ? toggle : null,
    );
  },
};
