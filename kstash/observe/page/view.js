// The answers of all workers as one view. Pure: no element of the page is touched here.
//
// A worker's times are by its own clock. They become ages by its own `time`, so that clocks which
// differ between machines move nothing on the page. That is why the page adds up by itself what
// `kstash/observe/merged.py` adds up for the workers of one supervisor, which have one clock.

export const HISTORY_S = 300;
const POINT_S = 2;
// A worker notes a point every two seconds; one that is late is not yet gone.
const POINT_OLD_S = 5;

/**
 * What a page remembers between two answers: when a worker was seen last, and the history of those
 * that are gone, so that a worker's end does not change the charts of the time before.
 */
export class Memory {
  constructor() {
    this.seen = new Map();
    this.points = new Map();
  }

  /** Note a worker's answer, at milliseconds of this browser. */
  note(id, status, now) {
    this.seen.set(id, now);
    const life = `${id} ${status.worker}`;
    const known = this.points.get(life) ?? new Map();
    for (const point of status.history ?? []) {
      known.set(point.time, { ...point, at: now / 1000 - (status.time - point.time) });
    }
    this.points.set(life, known);
  }

  /** Forget what is older than the page shows. */
  trim(now) {
    for (const [life, points] of this.points) {
      for (const [time, point] of points) {
        if (now / 1000 - point.at > HISTORY_S + POINT_OLD_S) points.delete(time);
      }
      if (points.size === 0) this.points.delete(life);
    }
  }
}

/**
 * The one view that all parts of the page draw.
 * @param {Object} answer of `/workers`
 * @param {Object|null} topology of `/topology`
 * @param {Memory} memory
 * @param {number} now milliseconds
 */
export function view(answer, topology, memory, now) {
  const entries = answer.workers ?? [];
  const workers = identified(entries).map(([id, entry]) => worker(id, entry, memory, now));
  const reached = workers.filter((one) => one.status !== null);
  const each = (name) =>
    reached.flatMap((one) => (one.status[name] ?? []).map((item) => ({ ...item, worker: one.name, of: one })));
  const aged = (item, time) => ({ ...item, age: item.of.status.time - time });
  memory.trim(now);
  return {
    now,
    topology,
    application: reached[0]?.status.application_id ?? topology?.application_id ?? "kstash",
    guarantee: reached[0]?.status.guarantee ?? null,
    versions: [...new Set(reached.map((one) => one.status.kstash))],
    workers,
    state: overall(workers),
    tasks: each("tasks"),
    operators: operators(each("operators")),
    edges: edges(each("edges")),
    history: history(memory, now),
    recoveries: each("recoveries")
      .map((item) => aged(item, item.ended))
      .sort((a, b) => a.age - b.age),
    checkpoints: each("checkpoints"),
    errors: each("errors")
      .map((item) => aged(item, item.time))
      .sort((a, b) => a.age - b.age),
  };
}

/** Each entry with a name of its own: all workers of a supervisor have its address. */
function identified(entries) {
  const counts = new Map();
  return entries.map((entry) => {
    const count = (counts.get(entry.address) ?? 0) + 1;
    counts.set(entry.address, count);
    return [`${entry.address} ${count}`, entry];
  });
}

function worker(id, entry, memory, now) {
  const status = entry.is_reachable ? (entry.status ?? null) : null;
  if (status !== null) memory.note(id, status, now);
  const seen = memory.seen.get(id);
  return {
    id,
    address: entry.address,
    name: status?.worker ?? entry.address,
    state: status?.state ?? "unreachable",
    status,
    error: entry.error ?? null,
    unseen: status === null && seen !== undefined ? (now - seen) / 1000 : null,
    last: status?.history?.at(-1) ?? null,
  };
}

function overall(workers) {
  const total = workers.length;
  const counts = new Map();
  for (const { state } of workers) counts.set(state, (counts.get(state) ?? 0) + 1);
  const live = counts.get("live") ?? 0;
  const others = [...counts].filter(([state]) => state !== "live");
  const kind = counts.has("unreachable") ? "bad" : live === total && total > 0 ? "good" : "busy";
  const name = total === 1 ? "worker" : "workers";
  const rest = others.map(([state, number]) => `, ${number} ${state}`).join("");
  return { kind, text: `${live} of ${total} ${name} live${rest}` };
}

/** Puts the workers' figures of the same operator together: the slowest task, the fastest, sums. */
function operators(all) {
  const merged = new Map();
  for (const item of all) {
    const id = JSON.stringify([item.stage, item.operator]);
    const distance = (time) => (typeof time === "number" ? item.of.status.time - time : null);
    const known = merged.get(id) ?? {
      operator: item.operator,
      stage: item.stage,
      streamTime: null,
      behind: null,
      ahead: null,
      windows: null,
      timers: null,
      dropped: new Map(),
      heldBy: null,
    };
    merged.set(id, known);
    const time = item.stream_time ?? null;
    // What holds the slowest task back holds the operator back.
    if (known.heldBy === null || (distance(time) ?? 0) > (known.behind ?? 0)) known.heldBy = item.held_by ?? null;
    if (time !== null) known.streamTime = Math.min(known.streamTime ?? time, time);
    known.behind = most(known.behind, distance(item.stream_time));
    const newest = distance(item.newest_time);
    known.ahead = most(known.ahead, newest === null ? null : -newest);
    known.windows = sum(known.windows, item.windows);
    known.timers = sum(known.timers, item.timers);
    for (const [reason, records] of Object.entries(item.dropped ?? {})) {
      known.dropped.set(reason, (known.dropped.get(reason) ?? 0) + records);
    }
  }
  return [...merged.values()];
}

/** Sums the workers' figures of the same edge; an unknown figure stays null. */
function edges(all) {
  const merged = new Map();
  for (const edge of all) {
    const id = JSON.stringify([edge.from, edge.to, edge.topic]);
    const known = merged.get(id);
    if (known === undefined) {
      merged.set(id, {
        from: edge.from,
        to: edge.to,
        topic: edge.topic,
        kind: edge.kind,
        rate: edge.records_per_second ?? null,
        lag: edge.lag_records ?? null,
        lagSeconds: edge.lag_seconds ?? null,
      });
    } else {
      known.rate = sum(known.rate, edge.records_per_second);
      known.lag = sum(known.lag, edge.lag_records);
      known.lagSeconds = most(known.lagSeconds, edge.lag_seconds ?? null);
    }
  }
  return [...merged.values()];
}

function sum(a, b) {
  if (a === null || a === undefined) return b ?? null;
  return b === null || b === undefined ? a : a + b;
}

function most(a, b) {
  return a === null || b === null ? (a ?? b) : Math.max(a, b);
}

/** One point every two seconds: sums over the workers; the latency is that of the slowest. */
function history(memory, now) {
  const series = [...memory.points.values()].map((points) =>
    [...points.values()].sort((a, b) => a.at - b.at),
  );
  const places = series.map(() => 0);
  const made = [];
  const newest = Math.max(0, ...series.map((points) => points.at(-1)?.at ?? 0));
  for (let back = HISTORY_S / POINT_S; back >= 0; back -= 1) {
    const at = newest - back * POINT_S;
    let point = null;
    series.forEach((points, index) => {
      while (places[index] < points.length && points[places[index]].at <= at) places[index] += 1;
      const last = points[places[index] - 1];
      if (last !== undefined && at - last.at < POINT_OLD_S) point = added(point, last);
    });
    if (point !== null) made.push({ ...point, age: now / 1000 - at });
  }
  return made;
}

function added(point, last) {
  return {
    in: (point?.in ?? 0) + (last.records_in_per_second ?? 0),
    out: (point?.out ?? 0) + (last.records_out_per_second ?? 0),
    latency: most(point?.latency ?? null, last.latency_seconds ?? null),
    lineage: (point?.lineage ?? 0) + (last.lineage_unacked_bytes ?? 0),
    state: (point?.state ?? 0) + (last.state_bytes ?? 0),
  };
}
