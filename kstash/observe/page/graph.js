// Makes boxes and edges of the answers of `/topology` and `/status`. Pure.

/** Kinds of edges, by docs/glossary.md, in the order of the legend. */
export const EDGE_KINDS = {
  narrow: "within a task, or by partitions of a topic of yours",
  wide: "through an internal topic, so that equal keys meet",
  mixed: "a topic of yours into a stage that has wide inputs too",
};

/** What an operator says of windows and timers, in words; empty where it has none. */
export function timing(node) {
  return [node.timing, node.clock ? `clock: ${node.clock}` : null].filter(Boolean).join(", ");
}

/** An internal topic by the name that it has in the program. */
export function topicName(topic, application) {
  const [start, end] = [`${application}-`, "-repartition"];
  const isInternal = topic.startsWith(start) && topic.endsWith(end);
  return isInternal ? topic.slice(start.length, -end.length) : topic;
}

/**
 * @param {Object|null} topology of `/topology`
 * @param {Array} flows edges of the view
 * @returns {{stages: Array, ends: Array, edges: Array}} stages with their operators, topics at the
 *   ends, and edges between them: `{id, from, to, fromNode, toNode, topic, kind, rate, lag}`
 */
export function graph(topology, flows) {
  const stages = topology?.stages ?? bare(flows);
  const known = new Map(flows.map((flow) => [key(flow.from, flow.to, flow.topic), flow]));
  const writers = new Map();
  for (const stage of stages) {
    for (const output of stage.outputs) {
      writers.set(output.topic, [...(writers.get(output.topic) ?? []), [stage, output]]);
    }
  }
  const readers = new Set(stages.flatMap((stage) => stage.inputs.map((input) => input.topic)));
  const edges = [];
  const ends = new Map();
  const add = (from, to, topic, isInternal, ids) => {
    const flow = known.get(key(from?.name ?? null, to?.name ?? null, topic));
    if (from === null) ends.set(`in ${topic}`, { id: `in ${topic}`, topic, isInput: true });
    if (to === null) ends.set(`out ${topic}`, { id: `out ${topic}`, topic, isInput: false });
    edges.push({
      id: `edge ${edges.length}`,
      from: from?.name === undefined ? `in ${topic}` : `stage ${from.name}`,
      to: to?.name === undefined ? `out ${topic}` : `stage ${to.name}`,
      source: from?.name ?? null,
      target: to?.name ?? null,
      fromNode: ids[0] ?? null,
      toNode: ids[1] ?? null,
      topic,
      kind: flow?.kind ?? (isInternal ? "wide" : "narrow"),
      rate: flow?.rate ?? null,
      lag: flow?.lag ?? null,
      lagSeconds: flow?.lagSeconds ?? null,
    });
  };
  for (const stage of stages) {
    for (const input of stage.inputs) {
      for (const [from, output] of writers.get(input.topic) ?? [[null, null]]) {
        add(from, stage, input.topic, input.internal, [output?.id, input.id]);
      }
    }
    for (const output of stage.outputs) {
      if (!readers.has(output.topic)) add(stage, null, output.topic, output.internal, [output.id, null]);
    }
  }
  return { stages: stages.map(operators), ends: [...ends.values()], edges };
}

/** Connected parts, in the order of the stages. */
export function parts({ stages, ends, edges }) {
  const group = new Map([...stages.map(({ name }) => `stage ${name}`), ...ends.map(({ id }) => id)].map((id) => [id, id]));
  for (const { from, to } of edges) {
    const [kept, gone] = [group.get(from), group.get(to)];
    for (const [id, of] of group) if (of === gone) group.set(id, kept);
  }
  return [...new Set(stages.map(({ name }) => group.get(`stage ${name}`)))].map((one) => ({
    stages: stages.filter(({ name }) => group.get(`stage ${name}`) === one),
    ends: ends.filter(({ id }) => group.get(id) === one),
    edges: edges.filter(({ from }) => group.get(from) === one),
  }));
}

function key(from, to, topic) {
  return JSON.stringify([from, to, topic]);
}

/** Stages as far as edges name them, where a server has no `/topology`. */
function bare(flows) {
  const names = new Set(flows.flatMap(({ from, to }) => [from, to]).filter((name) => name !== null));
  const end = ({ topic, kind }) => ({ topic, internal: kind === "wide" });
  return [...names].map((name) => ({
    name,
    inputs: flows.filter(({ to }) => to === name).map(end),
    outputs: flows.filter(({ from }) => from === name).map(end),
    stores: [],
    nodes: [],
  }));
}

/**
 * A stage's operators and the edges between them. A sink is drawn as its topic. A node that reads
 * from outside of its stage has an entry, which has the number of the input.
 */
function operators(stage) {
  const sinks = new Set(stage.outputs.filter((output) => !output.internal).map((output) => output.id));
  const nodes = stage.nodes.filter((node) => !sinks.has(node.id));
  const inside = new Set(nodes.map((node) => node.id));
  const lines = nodes.flatMap((node) =>
    node.parents.filter((parent) => inside.has(parent)).map((parent) => ({ from: parent, to: node.id })),
  );
  const entries = stage.inputs.map((input) => ({
    id: input.id,
    topic: input.topic,
    readers: nodes.filter((node) => node.parents.includes(input.id)).map((node) => node.id),
  }));
  const exits = stage.outputs.map((output) => {
    const sink = stage.nodes.find((node) => node.id === output.id);
    const isDrawn = inside.has(output.id);
    return { id: output.id, topic: output.topic, writers: isDrawn ? [output.id] : (sink?.parents ?? []).filter((id) => inside.has(id)) };
  });
  return { name: stage.name, stores: stage.stores, nodes, lines, entries, exits };
}
