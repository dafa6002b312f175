// Places nodes in layers along the flow: `main` runs along it, `cross` across it. Pure.
//
// The steps are Sugiyama's: layers by the longest way, dummies where an edge passes a layer, an
// order of each layer that avoids crossings, then places as near to the neighbours as that order
// allows.

const SWEEPS = 6;
const ROUNDS = 12;

/**
 * @param {Array<{id, main, cross, layer?, ports?}>} nodes sizes; `layer` fixes one, 0 and up
 * @param {Array<{id, from, to, fromPort?, toPort?}>} edges without cycles; a port is how far
 *   across its node an edge ends, by default its middle
 * @param {{mainGap: function(Array): number, crossGap: number, lane: number}} space the gap after
 *   a layer that edges of these ids start from, the gap within one, the breadth of a passing edge
 * @returns {{places: Map, ways: Map, main: number, cross: number}} of nodes `{main, cross}` of
 *   their first corner, of edges the points that they go through, and the size of all
 */
export function layered(nodes, edges, space) {
  const layerOf = layers(nodes, edges);
  const rows = Array.from({ length: Math.max(...layerOf.values(), 0) + 1 }, () => []);
  for (const node of nodes) rows[layerOf.get(node.id)].push(cell(node.id, node.main, node.cross));
  const chains = linked(edges, layerOf, rows, space);
  order(rows);
  settle(rows, space.crossGap);
  return placed(rows, chains, space);
}

function cell(id, main, cross) {
  return { id, main, cross, at: 0, before: [], after: [] };
}

function layers(nodes, edges) {
  const layerOf = new Map(nodes.map((node) => [node.id, node.layer ?? 0]));
  const fixed = new Set(nodes.filter((node) => node.layer !== undefined).map((node) => node.id));
  // As often as there are nodes: so this ends even with a cycle, of which there should be none.
  for (let round = 0; round < nodes.length; round += 1) {
    let isChanged = false;
    for (const { from, to } of edges) {
      if (!fixed.has(to) && layerOf.get(to) <= layerOf.get(from)) {
        layerOf.set(to, layerOf.get(from) + 1);
        isChanged = true;
      }
    }
    if (!isChanged) break;
  }
  return layerOf;
}

function linked(edges, layerOf, rows, space) {
  const cells = new Map(rows.flat().map((one) => [one.id, one]));
  const chains = new Map();
  const link = (from, fromPort, to, toPort) => {
    const made = { from, to, fromPort, toPort };
    from.after.push(made);
    to.before.push(made);
  };
  for (const edge of edges) {
    const [from, to] = [cells.get(edge.from), cells.get(edge.to)];
    const chain = [{ cell: from, port: edge.fromPort ?? from.cross / 2 }];
    for (let layer = layerOf.get(edge.from) + 1; layer < layerOf.get(edge.to); layer += 1) {
      const dummy = cell(null, 0, space.lane);
      rows[layer].push(dummy);
      chain.push({ cell: dummy, port: space.lane / 2 });
    }
    chain.push({ cell: to, port: edge.toPort ?? to.cross / 2 });
    chain.slice(1).forEach((next, index) => link(chain[index].cell, chain[index].port, next.cell, next.port));
    chains.set(edge.id, { chain, layer: layerOf.get(edge.from) });
  }
  return chains;
}

/** Orders each layer by the mean place of its neighbours, forth and back. */
function order(rows) {
  const number = (row) => row.forEach((one, index) => (one.at = index));
  rows.forEach(number);
  const mean = (one, ends) => {
    if (ends.length === 0) return one.at;
    return ends.reduce((sum, [end, port]) => sum + end.at + port / (end.cross + 1), 0) / ends.length;
  };
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const isForth = sweep % 2 === 0;
    for (const row of isForth ? rows : [...rows].reverse()) {
      const wanted = new Map(
        row.map((one) => [
          one,
          mean(one, isForth ? one.before.map((l) => [l.from, l.fromPort]) : one.after.map((l) => [l.to, l.toPort])),
        ]),
      );
      row.sort((a, b) => wanted.get(a) - wanted.get(b));
      number(row);
    }
  }
}

/** Moves cells across towards their neighbours; order and gaps stay. */
function settle(rows, gap) {
  for (const row of rows) {
    let at = 0;
    for (const one of row) {
      one.at = at;
      at += one.cross + gap;
    }
  }
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const row of round % 2 === 0 ? rows : [...rows].reverse()) {
      const wanted = row.map((one) => {
        const ends = [
          ...one.before.map((l) => l.from.at + l.fromPort - l.toPort),
          ...one.after.map((l) => l.to.at + l.toPort - l.fromPort),
        ];
        return ends.length === 0 ? one.at : ends.reduce((sum, end) => sum + end, 0) / ends.length;
      });
      spread(row, wanted, gap);
    }
  }
}

/** The places nearest to those wanted, in order and without overlap: pool adjacent violators. */
function spread(row, wanted, gap) {
  const offsets = [];
  let offset = 0;
  for (const one of row) {
    offsets.push(offset);
    offset += one.cross + gap;
  }
  const blocks = [];
  row.forEach((_, index) => {
    blocks.push({ sum: wanted[index] - offsets[index], count: 1 });
    while (blocks.length > 1 && value(blocks.at(-2)) > value(blocks.at(-1))) {
      const last = blocks.pop();
      blocks.at(-1).sum += last.sum;
      blocks.at(-1).count += last.count;
    }
  });
  let index = 0;
  for (const block of blocks) {
    for (let i = 0; i < block.count; i += 1, index += 1) row[index].at = value(block) + offsets[index];
  }
}

function value(block) {
  return block.sum / block.count;
}

function placed(rows, chains, space) {
  const least = Math.min(...rows.flat().map((one) => one.at), Infinity);
  const mains = [];
  let main = 0;
  rows.forEach((row, layer) => {
    const size = Math.max(...row.map((one) => one.main), 0);
    mains.push({ start: main, size });
    const started = [...chains].filter(([, chain]) => chain.layer === layer).map(([id]) => id);
    main += size + (layer < rows.length - 1 ? space.mainGap(started) : 0);
  });
  const places = new Map();
  rows.forEach((row, layer) => {
    for (const one of row) {
      one.at -= least;
      one.start = mains[layer].start + (mains[layer].size - one.main) / 2;
      one.layer = mains[layer];
      if (one.id !== null) places.set(one.id, { main: one.start, cross: one.at });
    }
  });
  const ways = new Map();
  for (const [id, { chain }] of chains) ways.set(id, way(chain));
  const cross = Math.max(...rows.flat().map((one) => one.at + one.cross), 0);
  return { places, ways, main, cross };
}

/**
 * From the end of the first cell to the start of the last, straight through the layers. The points
 * come in pairs, one pair a layer: between the second and the third lies the first gap.
 */
function way(chain) {
  return chain.flatMap(({ cell: one, port }, index) => {
    const cross = one.at + port;
    const [start, end] = [one.layer.start, one.layer.start + one.layer.size];
    return [
      { main: index === 0 ? one.start + one.main : start, cross },
      { main: index === chain.length - 1 ? one.start : end, cross },
    ];
  });
}
