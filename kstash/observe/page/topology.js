// The application drawn: topics at its ends, stages with their operators, and what flows on the
// edges between them. From left to right; from top to bottom where the page is narrow.

import { h, number, s, scroll } from "./dom.js";
import { duration, plural, rate, short } from "./format.js";
import { EDGE_KINDS, timing } from "./graph.js";
import { LABEL_X, LABEL_Y, middleOf, PAD, plan } from "./plan.js";

const NARROW_PX = 700;
const BEHIND_S = 10;
const STEP_MIN = 3;
// How much broader than the page a drawing may be to be shown from left to right all the same.
const BROADER_MAX = 1.1;
// How much broader than the page a drawing may be to be shown smaller; beyond, it scrolls.
const SHRINK_MAX = 1.35;

/** Whether the lag is above ten seconds; where its age is unknown, above ten seconds' work. */
export function isBehind(edge) {
  if (edge.lagSeconds !== null) return edge.lagSeconds > BEHIND_S;
  return edge.lag !== null && edge.lag > BEHIND_S * Math.max(edge.rate ?? 0, 1);
}

function path(points, isDown) {
  const [first, ...others] = points;
  let at = first;
  let text = `M${round(at.x)} ${round(at.y)}`;
  for (const next of others) {
    if (next.x === at.x && next.y === at.y) continue;
    const half = isDown ? (next.y - at.y) / 2 : (next.x - at.x) / 2;
    const [a, b] = isDown
      ? [{ x: at.x, y: at.y + half }, { x: next.x, y: next.y - half }]
      : [{ x: at.x + half, y: at.y }, { x: next.x - half, y: next.y }];
    text += `C${round(a.x)} ${round(a.y)} ${round(b.x)} ${round(b.y)} ${round(next.x)} ${round(next.y)}`;
    at = next;
  }
  return text;
}

const round = (value) => Math.round(value * 10) / 10;

function arrow({ x, y }, isDown) {
  const points = isDown
    ? [[x - 4.5, y - 8], [x + 4.5, y - 8], [x, y]]
    : [[x - 8, y - 4.5], [x - 8, y + 4.5], [x, y]];
  return s("polygon", { class: "arrow", points: points.map((point) => point.map(round).join(",")).join(" ") });
}

/** A line of its kind; an unknown kind is dotted. */
function line(kind, way) {
  const name = kind in EDGE_KINDS ? kind : "other";
  return [s("path", { class: `edge ${name}`, d: way }), name === "wide" ? s("path", { class: "edge hollow", d: way }) : null];
}

/** Without steps so small that they would look like mistakes. */
function straight(points, isDown) {
  const name = isDown ? "x" : "y";
  const made = [points[0]];
  for (const point of points.slice(1)) {
    const before = made.at(-1);
    made.push(Math.abs(point[name] - before[name]) < STEP_MIN ? { ...point, [name]: before[name] } : point);
  }
  return made;
}

function drawEdge(edge, part) {
  const points = straight(part.laid.ways.get(edge.id).map(part.axis.point), part.isDown);
  return s("g", null, line(edge.kind, path(points, part.isDown)), arrow(points.at(-1), part.isDown));
}

/** The text of an edge. */
function drawLabel(edge, part) {
  const { axis, laid, labels, isDown } = part;
  const middle = middleOf(laid.ways.get(edge.id), axis);
  const { name, facts } = labels.get(edge.id);
  const x = round(isDown ? middle.x + LABEL_X : middle.x - 3);
  const anchor = isDown ? "start" : "middle";
  const [above, below] = isDown ? [middle.y - 5, middle.y + (name === null ? 2 : 9)] : [middle.y - 9, middle.y + LABEL_Y];
  return s(
    "g",
    { class: isBehind(edge) ? "flow behind" : "flow" },
    s("title", null, `${edge.topic}: ${edge.kind} edge, ${facts}`),
    name === null ? null : s("text", { class: "code label", x, y: round(above), "text-anchor": anchor }, name),
    s("text", { class: "label facts", x, y: round(below), "text-anchor": anchor }, facts),
  );
}

function drawStage(box, corner, planned) {
  const { axis, isDown } = planned;
  const inner = (point) => {
    const { x, y } = axis.point(point);
    return { x: x + box.left, y: y + box.top };
  };
  const kinds = new Map(planned.edges.filter((edge) => edge.target === box.stage.name).map((edge) => [edge.topic, edge.kind]));
  const lines = box.lines.map(({ id, from, to, topic }) => {
    const points = straight(box.inner.ways.get(id).map(inner), isDown);
    // From border to border; where the flow goes down, the head is in between.
    if (from.startsWith("entry") && !isDown) points[0] = { ...points[0], x: 0 };
    if (to.startsWith("exit")) points.push(isDown ? { ...points.at(-1), y: box.h } : { ...points.at(-1), x: box.w });
    return line(from.startsWith("entry") ? (kinds.get(topic) ?? "narrow") : "narrow", path(points, isDown));
  });
  const chips = box.chips.map((chip) => {
    const { x, y } = inner(box.inner.places.get(chip.id));
    return s(
      "g",
      { class: chip.node.wide ? "chip wide" : "chip" },
      s("title", null, [chip.node.label, timing(chip.node)].filter(Boolean).join(": ")),
      s("rect", { x: round(x), y: round(y), width: chip.w, height: chip.h, rx: 4 }),
      s("text", { class: "code", x: round(x + 9), y: round(y + 16) }, chip.label),
      chip.said === "" ? null : s("text", { class: "facts soft", x: round(x + 9), y: round(y + 32) }, chip.said),
    );
  });
  return s(
    "g",
    { class: "stage", transform: `translate(${round(corner.x)} ${round(corner.y)})` },
    s("rect", { class: "box", width: round(box.w), height: round(box.h), rx: 6 }),
    s("text", { class: "code title", x: PAD, y: 19 }, box.title, s("title", null, box.stage.name)),
    s("circle", { class: box.states.kind, cx: PAD + 3.5, cy: 31, r: 3.5 }),
    s("text", { class: "facts", x: PAD + 12, y: 35 }, box.states.text),
    s("text", { class: "facts soft", x: round(box.w - PAD), y: 35, "text-anchor": "end" }, box.stores),
    lines,
    chips,
  );
}

function drawEnd(box, { x, y }) {
  return s(
    "g",
    { class: "topic", transform: `translate(${round(x)} ${round(y)})` },
    s("title", null, `topic ${box.end.topic}`),
    s("rect", { width: box.w, height: box.h, rx: 14 }),
    s("text", { class: "code", x: 13, y: 18 }, box.label),
  );
}

function drawPart(part, isCentred, whole) {
  const { axis, laid, boxes, edges } = part;
  return s(
    "g",
    { transform: `translate(${isCentred ? round((whole.w - part.w) / 2) : 0} ${round(part.y)})` },
    edges.map((edge) => drawEdge(edge, part)),
    [...boxes].map(([id, box]) => {
      const corner = axis.point(laid.places.get(id));
      return box.end === undefined ? drawStage(box, corner, part) : drawEnd(box, corner);
    }),
    edges.map((edge) => drawLabel(edge, part)),
  );
}

function drawing(planned, view) {
  const [w, high] = [Math.ceil(planned.w) + 2, Math.ceil(planned.h) + 2];
  const all = (name) => planned.parts.reduce((sum, part) => sum + part[name].length, 0);
  return s(
    "svg",
    {
      class: planned.w <= SHRINK_MAX * view.width ? "topology fitting" : "topology",
      viewBox: `-1 -1 ${w} ${high}`,
      width: w,
      height: high,
      role: "img",
      "aria-label":
        `The topology of ${view.application}: ${plural(all("stages"), "stage")}, ` +
        `${plural(all("edges"), "edge")}; as a table below.`,
    },
    planned.parts.map((part) => drawPart(part, part.isDown, planned)),
  );
}

function legend(edges) {
  const others = new Set(edges.map(({ kind }) => kind).filter((kind) => !(kind in EDGE_KINDS)));
  const item = (kind, meaning) =>
    h(
      "li",
      null,
      s("svg", { class: "stroke", width: 30, height: 10, "aria-hidden": "true" }, line(kind, "M0 5H30")),
      h("b", null, kind),
      meaning ? ` ${meaning}` : null,
    );
  return h("ul", { class: "legend" }, Object.entries(EDGE_KINDS).map(([kind, meaning]) => item(kind, meaning)), [...others].map((kind) => item(kind, "")));
}

function table(edges) {
  return h(
    "details",
    null,
    h("summary", null, "Edges as a table"),
    scroll(
      "Table of edges",
      h(
        "table",
        null,
        h("thead", null, h("tr", null, ["From", "To", "Topic", "Kind"].map((name) => h("th", { scope: "col" }, name)), ["Rate", "Lag", "Lag time"].map((name) => h("th", { scope: "col", class: "number" }, name)))),
        h(
          "tbody",
          null,
          edges.map((edge) =>
            h(
              "tr",
              null,
              h("td", { class: "code" }, edge.source ?? "outside"),
              h("td", { class: "code" }, edge.target ?? "outside"),
              h("th", { scope: "row", class: "code" }, edge.topic),
              h("td", null, edge.kind),
              number(rate(edge.rate)),
              number(short(edge.lag), { class: isBehind(edge) ? "busy" : null }),
              number(duration(edge.lagSeconds), { class: isBehind(edge) ? "busy" : null }),
            ),
          ),
        ),
      ),
    ),
  );
}

export const topology = {
  id: "topology",
  title: "Topology",
  draw(view) {
    if (view.topology === null && view.edges.length === 0) return null;
    let planned = plan(view, view.width < NARROW_PX);
    if (view.width >= NARROW_PX && planned.w > BROADER_MAX * view.width) {
      // Upright where that is what fits; else it scrolls.
      const upright = plan(view, true);
      if (upright.w <= view.width) planned = upright;
    }
    const edges = planned.parts.flatMap((part) => part.edges);
    return h("div", null, scroll("Drawing of the topology", drawing(planned, view)), legend(edges), table(edges));
  },
};
