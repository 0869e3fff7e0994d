// The drawing of a stage: which boxes it has, and where they and their edges lie.
"use strict";

const FOLDED = 150; // boxes beyond which operations of one line or scope are drawn as one
const SIMPLEX = 250; // boxes beyond which layers come from the longest paths, in linear time

// The operand that a multiplication by 1 or an addition of 0 returns, or -1.
function passed(s, n) {
  if (n.inputs.length !== 2) return -1;
  const constantOf = (i) => (s.nodes[i].literal ? s.arrays[s.nodes[i].value].data[0] : null);
  const [a, b] = n.inputs, same = (i) => String(s.nodes[i].shape) === String(n.shape);
  if ((n.op === "mul" || n.op === "div") && constantOf(b) === 1 && same(a)) return a;
  if ((n.op === "add" || n.op === "sub") && constantOf(b) === 0 && same(a)) return a;
  if (n.op === "mul" && constantOf(a) === 1 && same(b)) return b;
  if (n.op === "add" && constantOf(a) === 0 && same(b)) return b;
  return -1;
}

// Boxes and edges: literals stand in formulas, trivial nodes and folded groups are left out.
function shownBoxes(s, trivial, open) {
  const results = new Set(s.outputs.map(([, o]) => o)), alias = s.nodes.map((_, i) => i);
  if (!trivial) s.nodes.forEach((n, i) => { const to = passed(s, n); if (to >= 0 && !results.has(i)) alias[i] = alias[to]; });
  const visible = s.nodes.filter((n, i) => !n.literal && alias[i] === i && (!n.input || s.readers[i].length > 0 || results.has(i)));
  const folding = visible.length > FOLDED, home = new Map(), boxes = new Map();
  for (const n of visible) {
    const place = n.input ? `arguments ${n.name.split(/[.[]/)[0]}` : n.scope || (n.line ? `${n.line[0]}:${n.line[1]}` : n.rules.join(", ") || n.op);
    const group = folding && !open.has(`${s.index} ${place} ${n.role}`) ? `${place} ${n.role}` : null;
    const id = group === null ? n.index : `g${group}`;
    home.set(n.index, id);
    if (!boxes.has(id)) boxes.set(id, {id, nodes: [], place, group, role: n.role});
    boxes.get(id).nodes.push(n);
  }
  for (const box of boxes.values()) if (box.nodes.length === 1) box.group = null;
  const edges = new Map();
  for (const n of visible) {
    for (const i of n.inputs) {
      const a = home.get(alias[i]), b = home.get(n.index);
      if (a !== undefined && a !== b && !s.nodes[alias[i]].literal) edges.set(`${a}>${b}`, [a, b]);
    }
  }
  return {boxes: [...boxes.values()], edges: [...edges.values()], order: visible, home};
}

function boxLines(box) {
  const n = box.nodes[0];
  if (box.group === null) return [n.input ? n.name : `${n.name} = ${n.op}`, n.type];
  return [`${box.nodes.length} ${n.input ? "arguments" : "operations"}`, n.input ? n.name.split(/[.[]/)[0] : box.place];
}

// The boxes of a stage with their places, its edges with their paths, and the size of the drawing.
function laidOut(s, trivial, open, options = {}) {
  const view = shownBoxes(s, trivial, open), g = new dagre.graphlib.Graph({multigraph: false});
  g.setGraph({rankdir: "TB", nodesep: 14, edgesep: 8, ranksep: 26, marginx: 20, marginy: 34, ranker: view.boxes.length > SIMPLEX ? "longest-path" : "network-simplex", ...options});
  g.setDefaultEdgeLabel(() => ({}));
  for (const box of view.boxes) {
    const n = box.nodes[0];
    box.lines = boxLines(box);
    box.heat = box.group === null && n.shape && n.shape.length > 0 && sizeOf(n.shape) > 1;
    g.setNode(String(box.id), {width: Math.max(64, 16 + 7.4 * Math.max(...box.lines.map((t) => t.length))), height: box.heat ? 62 : 50});
  }
  for (const [a, b] of view.edges) g.setEdge(String(a), String(b));
  dagre.layout(g);
  for (const box of view.boxes) Object.assign(box, g.node(String(box.id)));
  view.paths = view.edges.map(([a, b]) => ({a, b, points: g.edge(String(a), String(b)).points}));
  const [w, h] = [g.graph().width, g.graph().height];
  view.width = Number.isFinite(w) ? w : 100;
  view.height = Number.isFinite(h) ? h : 100;
  return view;
}

// The number of pairs of edges that cross, of boxes that overlap, and of edges that run through a box.
function layoutMetrics(view) {
  const segments = view.paths.flatMap((path, k) => path.points.slice(1).map((q, j) => ({k, a: path.a, b: path.b, p: path.points[j], q})));
  const side = (p, q, r) => (q.x - p.x) * (r.y - p.y) - (q.y - p.y) * (r.x - p.x);
  const crossed = new Set();
  segments.sort((u, v) => Math.min(u.p.y, u.q.y) - Math.min(v.p.y, v.q.y));
  for (let i = 0; i < segments.length; i++) {
    const u = segments[i], end = Math.max(u.p.y, u.q.y);
    for (let j = i + 1; j < segments.length && Math.min(segments[j].p.y, segments[j].q.y) < end; j++) {
      const v = segments[j];
      if (u.k === v.k || u.a === v.a || u.b === v.b) continue;
      if (side(u.p, u.q, v.p) * side(u.p, u.q, v.q) < 0 && side(v.p, v.q, u.p) * side(v.p, v.q, u.q) < 0) crossed.add(u.k < v.k ? `${u.k} ${v.k}` : `${v.k} ${u.k}`);
    }
  }
  let overlaps = 0;
  view.boxes.forEach((a, i) => view.boxes.slice(i + 1).forEach((b) => {
    if (Math.abs(a.x - b.x) < (a.width + b.width) / 2 && Math.abs(a.y - b.y) < (a.height + b.height) / 2) overlaps++;
  }));
  return {boxes: view.boxes.length, edges: view.edges.length, width: Math.round(view.width), height: Math.round(view.height), crossings: crossed.size, overlaps};
}
