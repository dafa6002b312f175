// Where everything of the drawn application lies, in pixels: stages with their operators, topics,
// the ways of edges and their labels. Nothing is drawn here.

import { cut, rate, short } from "./format.js";
import { graph, parts, timing, topicName } from "./graph.js";
import { layered } from "./layout.js";
import { counted } from "./states.js";
import { code, plain } from "./widths.js";

const CHIP = 24;
// With a second line, of what the operator says of time.
const TIMED_CHIP = 40;
const HEAD = 44;
export const PAD = 12;
const LETTERS_MAX = 30;
const TIMING_LETTERS_MAX = 48;
const PORT = 8;
export const LABEL_X = 10;
export const LABEL_Y = 17;
const PART_GAP = 30;

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
    const said = cut(timing(node), TIMING_LETTERS_MAX);
    const label = cut(node.label, said === "" ? LETTERS_MAX : TIMING_LETTERS_MAX);
    const w = Math.max(code(label), plain(said, 11)) + 18;
    return { id: `node ${node.id}`, node, label, said, w, h: said === "" ? CHIP : TIMED_CHIP };
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
export function middleOf(way, axis) {
  const [, a, b] = way.map(axis.point);
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
}

/** All parts, below each other. */
export function plan(view, isDown) {
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
