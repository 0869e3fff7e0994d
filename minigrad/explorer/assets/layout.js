// The drawing of a stage: which boxes it has, and where they and their edges lie.
"use strict";

const FOLDED = 150; // boxes beyond which operations of one line or scope are drawn as one
const PART = 60; // operations of one line that are drawn together, where it has more

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

// Where a node belongs at a level: its scope or line, and at higher ones the scope around it or a range of lines.
function placeOf(n, level) {
  if (n.input) return `arguments ${n.name.split(/[.[]/)[0]}`;
  if (n.scope) return n.scope.split("/").slice(0, Math.max(1, n.scope.split("/").length - level)).join("/");
  if (!n.line) return n.rules.join(", ") || n.op;
  const size = 8 ** level, first = n.line[1] - n.line[1] % size;
  return `${n.line[0]}:${size === 1 ? first : `${first}–${first + size - 1}`}`;
}

// A function that gives the group of each node, {id, place}; the place of a node that stands alone is null. Levels grow
// until the drawing has few boxes. A group that is opened shows those of the level below; the last are parts of `PART`.
function grouping(s, visible, open) {
  if (visible.length <= FOLDED) return (n) => ({id: n.index, place: null});
  const keys = (level) => {
    const known = new Map(); // nodes of one line have one place
    return new Map(visible.map((n) => {
      const own = n.input ? n : n.scope || n.line || n;
      if (!known.has(own)) known.set(own, placeOf(n, level));
      return [n, `${level} ${known.get(own)} ${n.role}`];
    }));
  };
  const levels = [];
  do levels.push(keys(levels.length)); while (new Set(levels[levels.length - 1].values()).size > FOLDED && levels.length < 7);
  const seen = new Map(), parts = new Map();
  for (const n of visible) {
    const k = seen.get(levels[0].get(n)) || 0;
    seen.set(levels[0].get(n), k + 1);
    parts.set(n, Math.floor(k / PART));
  }
  return (n) => {
    for (let level = levels.length - 1; level >= 0; level--) {
      const id = levels[level].get(n);
      if (!open.has(`${s.index} ${id}`)) return {id: `g${id}`, place: placeOf(n, level)};
    }
    const line = levels[0].get(n), id = `part ${parts.get(n)} of ${line}`;
    if (seen.get(line) <= PART || open.has(`${s.index} ${id}`)) return {id: n.index, place: null};
    return {id: `g${id}`, place: `${placeOf(n, 0)}, part ${parts.get(n) + 1}`};
  };
}

// Boxes and edges: literals stand in formulas, trivial nodes and folded groups are left out.
function shownBoxes(s, trivial, open) {
  const results = new Set(s.outputs.map(([, o]) => o)), alias = s.nodes.map((_, i) => i);
  if (!trivial) s.nodes.forEach((n, i) => { const to = passed(s, n); if (to >= 0 && !results.has(i)) alias[i] = alias[to]; });
  const visible = s.nodes.filter((n, i) => !n.literal && alias[i] === i && (!n.input || s.readers[i].length > 0 || results.has(i)));
  const group = grouping(s, visible, open), home = new Map(), boxes = new Map();
  for (const n of visible) {
    const {id, place} = group(n);
    home.set(n.index, id);
    if (!boxes.has(id)) boxes.set(id, {id, nodes: [], place, group: place === null ? null : id, role: n.role});
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

const MARGIN = 20;
const CHARACTER = 7.4, NUMBER = 8; // the width of a character, and the characters of -0.12345
const COMMUTATIVE = new Set(["add", "mul", "maximum", "minimum", "logaddexp"]); // operands may enter in any order
const f = (v) => v.toFixed(1);

// A line straight down, over to the side between two layers, and down again.
function curvePath({x, start, low, to, high, end}) {
  const middle = f((low + high) / 2), over = Math.abs(to - x) < 0.05 ? `V${f(high)}` : `C${f(x)} ${middle} ${f(to)} ${middle} ${f(to)} ${f(high)}`;
  return `M${f(x)} ${f(start)}${low > start ? `V${f(low)}` : ""}${over}${end > high ? `V${f(end)}` : ""}`;
}

// The boxes of a stage with their places, the lines between them with the edges on each, and the size of the drawing.
function laidOut(s, trivial, open) {
  const view = shownBoxes(s, trivial, open), place = new Map(view.boxes.map((box, k) => [box.id, k]));
  for (const box of view.boxes) {
    const n = box.nodes[0];
    box.lines = boxLines(box);
    box.heat = box.group === null && n.shape && n.shape.length > 0 && sizeOf(n.shape) > 1;
    const number = box.group === null && !box.heat ? NUMBER : 0;
    box.width = Math.max(64, 16 + CHARACTER * Math.max(number, ...box.lines.map((t) => t.length)));
    box.height = box.heat ? 62 : 50;
  }
  if (!view.boxes.length) return {...view, lines: [], width: 100, height: 100};
  const edges = view.edges.map(([a, b]) => [place.get(a), place.get(b)]);
  const drawn = layered(view.boxes.map((box) => [box.width, box.height]), edges, view.boxes.map((box) => box.group !== null || COMMUTATIVE.has(box.nodes[0].op)));
  view.boxes.forEach((box, k) => { box.x = drawn.places[k][0] + MARGIN; box.y = drawn.places[k][1] + MARGIN; });
  view.lines = drawn.curves.map((curve) => {
    const c = {...curve};
    for (const k of ["x", "to"]) c[k] += MARGIN;
    for (const k of ["start", "low", "high", "end"]) c[k] += MARGIN;
    return {...c, path: curvePath(c), edges: c.edges.map((e) => view.edges[e])};
  });
  return {...view, width: drawn.width + 2 * MARGIN, height: drawn.height + 2 * MARGIN + (s.outputs.length ? 10 : 0)}; // room for the results' names
}

// The size of a drawing, the pairs of lines that cross, and of boxes that overlap.
function layoutMetrics(view) {
  const side = ([px, py], [qx, qy], [rx, ry]) => (qx - px) * (ry - py) - (qy - py) * (rx - px);
  const slanted = view.lines.map((c) => [[c.x, c.low], [c.to, c.high]]);
  let crossings = 0, overlaps = 0;
  slanted.forEach(([a, b], i) => slanted.slice(i + 1).forEach(([c, d]) => {
    if (side(a, b, c) * side(a, b, d) < 0 && side(c, d, a) * side(c, d, b) < 0) crossings++;
  }));
  view.boxes.forEach((a, i) => view.boxes.slice(i + 1).forEach((b) => {
    if (Math.abs(a.x - b.x) < (a.width + b.width) / 2 && Math.abs(a.y - b.y) < (a.height + b.height) / 2) overlaps++;
  }));
  return {boxes: view.boxes.length, edges: view.edges.length, width: Math.round(view.width), height: Math.round(view.height), crossings, overlaps};
}
