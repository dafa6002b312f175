// The application drawn: topics at its ends, stages with their operators, and what flows on the
// edges between them. From left to right; from top to bottom where the page is narrow.

import { h, number, s, scroll } from "./dom.js";
import { cut, duration, plural, rate, short } from "./format.js";
import { EDGE_KINDS, graph, parts, topicName } from "./graph.js";
import { layered } from "./layout.js";
import { counted } from "./states.js";
import { code, plain } from "./widths.js";

const NARROW_PX = 700;
const CHIP = 24;
const HEAD = 44;
const PAD = 12;
const LETTERS_MAX = 30;
const PORT = 8;
const BEHIND_S = 10;
const LABEL_X = 10;
const LABEL_Y = 17;
const PART_GAP = 30;
const STEP_MIN = 3;
// How much broader than the page a drawing may be to be shown smaller; beyond, it scrolls.
const SHRINK_MAX = 1.35;

/** Whether the lag is above ten seconds; where its age is unknown, above ten seconds' work. */
export function isBehind(edge) {
  if (edge.lagSeconds !== null) return edge.lagSeconds > BEHIND_S;
  return edge.lag !== null && edge.lag > BEHIND_S * Math.max(edge.rate ?? 0, 1);
}

function labelOf(edge, application) {
  const isInner = edge.source !== null && edge.target !== null;
  const facts = [rate(edge.rate)];
  // Topics at the application's end are read by others, whose lag is not known here.
  if (edge.target !== null) facts.push(`lag ${short(edge.lag)}`);
  return { name: isInner ? cut(topicName(edge.topic, application), 24) : null, facts: facts.join(" · ") };
}

/** Sizes along and across the flow to x and y, and back. */
function axes(isDown) {
  return isDown
    ? { size: (w, high) => ({ main: high, cross: w }), point: (p) => ({ x: p.cross, y: p.main }) }
    : { size: (w, high) => ({ main: w, cross: high }), point: (p) => ({ x: p.main, y: p.cross }) };
}

/** A stage: its operators placed, and where edges enter and leave. */
function stageBox(stage, tasks, isDown, ranks) {
  const axis = axes(isDown);
  const ranked = (ends, side) => {
    const rank = ({ topic }) => ranks.get(`${side} ${stage.name} ${topic}`) ?? 0;
    return [...ends].sort((a, b) => rank(a) - rank(b));
  };
  const chips = stage.nodes.map((node) => {
    const label = cut(node.label, LETTERS_MAX);
    return { id: `node ${node.id}`, node, label, w: code(label) + 18, h: CHIP };
  });
  const nodes = chips.map((chip) => ({ id: chip.id, ...axis.size(chip.w, chip.h) }));
  const lines = stage.lines.map(({ from, to }) => ({ id: `${from} ${to}`, from: `node ${from}`, to: `node ${to}` }));
  for (const { topic, readers } of ranked(stage.entries, "into")) {
    nodes.push({ id: `entry ${topic}`, main: 0, cross: PORT, layer: 0 });
    lines.push(...readers.map((id) => ({ id: `entry ${topic} ${id}`, from: `entry ${topic}`, to: `node ${id}`, topic })));
  }
  const last = depth(nodes, lines) + 1;
  for (const { topic, writers } of ranked(stage.exits, "out of")) {
    nodes.push({ id: `exit ${topic}`, main: 0, cross: PORT, layer: last });
    lines.push(...writers.map((id) => ({ id: `exit ${topic} ${id}`, from: `node ${id}`, to: `exit ${topic}`, topic })));
  }
  const inner = layered(nodes, lines, { mainGap: () => 20, crossGap: 8, lane: PORT });
  const size = axis.point(inner);
  const title = cut(stage.name, LETTERS_MAX);
  const states = statesOf(tasks);
  const stores = stage.stores.length > 0 ? cut(`state ${stage.stores.join(", ")}`, LETTERS_MAX) : "";
  const head = Math.max(code(title), plain(`${states.text}   ${stores}`, 11)) + 3 * PAD;
  const w = Math.max(size.x + (isDown ? 2 * PAD : 0), head);
  const h = HEAD + size.y + (isDown ? 0 : PAD);
  return { stage, title, states, stores, chips, lines, inner, w, h, left: (w - size.x) / 2, top: HEAD };
}

/** The longest way through the operators. */
function depth(nodes, lines) {
  const depths = new Map(nodes.map((node) => [node.id, 0]));
  for (let round = 0; round < nodes.length; round += 1) {
    for (const { from, to } of lines) depths.set(to, Math.max(depths.get(to), depths.get(from) + 1));
  }
  return Math.max(...depths.values(), 0);
}

function statesOf(tasks) {
  if (tasks.length === 0) return { kind: "bad", text: "no task" };
  const isAllLive = tasks.every(({ state }) => state === "live");
  return { kind: isAllLive ? "good" : "busy", text: counted(tasks) };
}

/**
 * One connected part with everything in its place, in pixels. It is placed twice: where edges enter
 * a stage follows from where they come from the first time, so that they do not cross before it.
 */
function planPart(part, view, isDown) {
  const { laid } = placePart(part, view, isDown, new Map());
  const ranks = new Map();
  for (const edge of part.edges) {
    const points = laid.ways.get(edge.id);
    ranks.set(`into ${edge.target} ${edge.topic}`, points[0].cross);
    ranks.set(`out of ${edge.source} ${edge.topic}`, points.at(-1).cross);
  }
  return placePart(part, view, isDown, ranks);
}

function placePart(part, view, isDown, ranks) {
  const axis = axes(isDown);
  const boxes = new Map();
  for (const stage of part.stages) {
    const tasks = view.tasks.filter((task) => task.stage === stage.name);
    boxes.set(`stage ${stage.name}`, stageBox(stage, tasks, isDown, ranks));
  }
  for (const end of part.ends) {
    const label = cut(end.topic, LETTERS_MAX);
    boxes.set(end.id, { end, label, w: code(label) + 26, h: 28 });
  }
  const port = (id, side, topic) => {
    const box = boxes.get(id);
    const place = box.inner?.places.get(`${side} ${topic}`);
    return place === undefined ? undefined : (isDown ? box.left : box.top) + place.cross + PORT / 2;
  };
  const labels = new Map(part.edges.map((edge) => [edge.id, labelOf(edge, view.application)]));
  const room = (id) => Math.max(plain(labels.get(id).facts, 11), code(labels.get(id).name ?? "", 11));
  const fixed = fixedLayers(part);
  const laid = layered(
    [...boxes].map(([id, box]) => ({ id, ...axis.size(box.w, box.h), layer: fixed.get(id) })),
    part.edges.map((edge) => ({
      id: edge.id,
      from: edge.from,
      to: edge.to,
      fromPort: port(edge.from, "exit", edge.topic),
      toPort: port(edge.to, "entry", edge.topic),
    })),
    { mainGap: (ids) => (isDown ? 54 : 30 + Math.max(...ids.map(room), 0)), crossGap: isDown ? 28 : 26, lane: 34 },
  );
  const size = axis.point(laid);
  // Labels stand beside their edges or below them, those of the last ones beyond the boxes.
  const middles = part.edges.map(({ id }) => ({ id, ...middleOf(laid.ways.get(id), axis) }));
  const w = isDown ? Math.max(size.x, ...middles.map(({ id, x }) => x + LABEL_X + room(id))) : size.x;
  const high = isDown ? size.y : Math.max(size.y, ...middles.map(({ y }) => y + LABEL_Y + 4));
  return { ...part, axis, boxes, labels, laid, isDown, w, h: high };
}

/** The middle of the first gap that an edge goes through, where its label is. */
function middleOf(way, axis) {
  const [, a, b] = way.map(axis.point);
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
}

/** All parts, below each other. */
function plan(view, isDown) {
  const drawn = parts(graph(view.topology, view.edges)).map((part) => planPart(part, view, isDown));
  let y = 0;
  for (const part of drawn) {
    part.y = y;
    y += part.h + PART_GAP;
  }
  return { parts: drawn, w: Math.max(...drawn.map(({ w }) => w), 0), h: Math.max(y - PART_GAP, 0) };
}

/** Inputs stand right before the first stage that reads them, not all at the beginning. */
function fixedLayers(drawn) {
  const layerOf = new Map();
  const depths = new Map(drawn.stages.map((stage) => [`stage ${stage.name}`, 1]));
  for (let round = 0; round < drawn.stages.length; round += 1) {
    for (const { from, to } of drawn.edges) {
      if (depths.has(from) && depths.has(to)) depths.set(to, Math.max(depths.get(to), depths.get(from) + 1));
    }
  }
  for (const { from, to } of drawn.edges) {
    if (!depths.has(from)) layerOf.set(from, Math.min(layerOf.get(from) ?? Infinity, depths.get(to) - 1));
  }
  for (const [id, layer] of depths) layerOf.set(id, layer);
  return layerOf;
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
      s("title", null, chip.node.label),
      s("rect", { x: round(x), y: round(y), width: chip.w, height: chip.h, rx: 4 }),
      s("text", { class: "code", x: round(x + 9), y: round(y + 16) }, chip.label),
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
    if (view.width >= NARROW_PX && planned.w > view.width) {
      // Upright where that is what fits; else it scrolls.
      const upright = plan(view, true);
      if (upright.w <= view.width) planned = upright;
    }
    const edges = planned.parts.flatMap((part) => part.edges);
    return h("div", null, scroll("Drawing of the topology", drawing(planned, view)), legend(edges), table(edges));
  },
};
