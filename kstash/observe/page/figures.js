// What the application does now, and did in the last minutes: five at most.

import { h, s } from "./dom.js";
import { UNKNOWN, ago, bytes, clock, duration, plural, rate } from "./format.js";
import { HISTORY_S } from "./view.js";

// Charts span the time that is known, but at least this: in a shorter one little would seem much.
const SPAN_S_MIN = 60;

const WIDTH = 300;
const HEIGHT = 44;
// A point every two seconds; where more is missing, the line is broken.
const GAP_S = 5;

// Where a pointer is, in seconds before now; all charts show the values of that time.
let pointed = null;

const FIGURES = [
  { name: "in", title: "Records in", form: rate, hint: "by all stages of all workers, replayed ones too" },
  { name: "out", title: "Records out", form: rate, hint: "handed to the producers, by all stages" },
  {
    name: "latency",
    title: "Latency",
    form: duration,
    hint: "age of outputs when they are handed over: the mean of two seconds, of the slowest worker",
  },
  { name: "lineage", title: "Unacknowledged lineage", form: bytes, hint: "not yet in the lineage topic" },
  { name: "state", title: "State in memory", form: bytes, hint: "an estimate, of all stores" },
];

/** The chart of one figure: a line over its area, and a mark for each recovery. */
function sparkline(figure, points, recoveries, span, redraw) {
  const known = points.filter((point) => point[figure.name] !== null);
  const most = Math.max(...known.map((point) => point[figure.name]), 0);
  const x = (age) => (1 - age / span) * WIDTH;
  const y = (value) => HEIGHT - 1 - (most > 0 ? value / most : 0) * (HEIGHT - 4);
  const runs = [];
  known.forEach((point, index) => {
    if (index === 0 || known[index - 1].age - point.age > GAP_S) runs.push([]);
    runs.at(-1).push(`${x(point.age).toFixed(1)},${y(point[figure.name]).toFixed(1)}`);
  });
  const ends = (run) => [run[0].split(",")[0], run.at(-1).split(",")[0]];
  return s(
    "svg",
    {
      class: "spark",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      onpointermove: (event) => {
        const { left, width } = event.currentTarget.getBoundingClientRect();
        pointed = Math.max(0, 1 - (event.clientX - left) / width) * span;
        redraw();
      },
      onpointerleave: () => {
        pointed = null;
        redraw();
      },
      "aria-label": `${figure.title} of the last ${lasting(span)}: ${figure.form(most)} at most`,
    },
    recoveries.map((age) =>
      s("line", { class: "mark", x1: x(age).toFixed(1), x2: x(age).toFixed(1), y1: 0, y2: HEIGHT }),
    ),
    pointed === null ? null : s("line", { class: "pointed", x1: x(pointed), x2: x(pointed), y1: 0, y2: HEIGHT }),
    s("line", { class: "base", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }),
    runs.map((run) => {
      const [first, last] = ends(run);
      return [
        s("polygon", { points: `${first},${HEIGHT} ${run.join(" ")} ${last},${HEIGHT}` }),
        s("polyline", { points: run.join(" ") }),
      ];
    }),
  );
}

/** The point that is shown in figures: the newest one, or the one that a pointer is at. */
function shownPoint(points) {
  if (pointed === null) return points.at(-1) ?? null;
  return points.findLast((point) => Math.abs(point.age - pointed) < GAP_S / 2) ?? null;
}

function cell(figure, points, recoveries, span, redraw) {
  const now = shownPoint(points)?.[figure.name] ?? null;
  const known = points.map((point) => point[figure.name]).filter((value) => value !== null);
  return h(
    "div",
    { class: "figure", title: figure.hint },
    h("dt", null, figure.title),
    h("dd", null, figure.form(now)),
    h(
      "dd",
      { class: "chart" },
      known.length > 1 ? sparkline(figure, points, recoveries, span, redraw) : h("p", { class: "soft" }, "Too few points yet."),
      h("p", { class: "range" }, known.length > 1 ? `max ${figure.form(Math.max(...known))}` : UNKNOWN),
    ),
  );
}

/** How long charts go back, in whole minutes or, below two, seconds. */
function lasting(span) {
  return span < 120 ? `${Math.round(span)} seconds` : `${Math.round(span / 60)} minutes`;
}

function legend(view, recoveries, span) {
  if (pointed !== null) return h("p", { class: "soft note" }, `At ${clock(view.now - pointed * 1000)}, ${ago(pointed)}.`);
  if (recoveries.length === 0) return h("p", { class: "soft note" }, `The last ${lasting(span)}.`);
  const newest = view.recoveries[0];
  return h(
    "p",
    { class: "soft note" },
    `The last ${lasting(span)}; dashed lines are ends of recoveries (`,
    `${plural(recoveries.length, "recovery", "recoveries")}, the last ${ago(newest.age)}, at ${clock(view.now - newest.age * 1000)}).`,
  );
}

export const figures = {
  id: "figures",
  title: "Flow",
  draw(view) {
    const span = Math.min(HISTORY_S, Math.max(SPAN_S_MIN, view.history[0]?.age ?? 0));
    const recoveries = view.recoveries.map(({ age }) => age).filter((age) => age < span);
    // Task groups that end together would be one thick line.
    const marks = [...new Map(recoveries.map((age) => [Math.round(age), age])).values()];
    return h(
      "div",
      null,
      h("dl", { class: "figures" }, FIGURES.map((figure) => cell(figure, view.history, marks, span, view.redraw))),
      legend(view, recoveries, span),
    );
  },
};
