// Evaluate the graphs of a page on edited values: the same primitives as in the library, on arrays of float64.
"use strict";

const F = {
  seldom: (rare, usual, other) => (rare ? other : usual),
  isfinite: (x) => Number.isFinite(x),
  isnan: (x) => Number.isNaN(x),
  isinf: (x) => x === Infinity || x === -Infinity,
  exp2: (x) => 2 ** x,
  mod: (x, y) => { const r = x % y; return r !== 0 && r < 0 !== y < 0 ? r + y : r; },
  rint: (x) => { const r = Math.round(x); return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r; },
  logaddexp: (x, y) => (x === y ? x + Math.LN2 : Math.max(x, y) + Math.log1p(Math.exp(-Math.abs(x - y)))),
  // Lanczos' approximation with g = 7 and nine terms.
  lgamma(x) {
    if (x < 0.5) return Math.log(Math.PI / Math.abs(Math.sin(Math.PI * x))) - F.lgamma(1 - x);
    const terms = [0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313,
      -176.61502916214059, 12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7];
    const t = x + 6.5;
    let sum = terms[0];
    for (let k = 1; k < 9; k++) sum += terms[k] / (x - 1 + k);
    return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(sum);
  },
  tgamma: (x) => (x < 0.5 ? Math.PI / (Math.sin(Math.PI * x) * F.tgamma(1 - x)) : Math.exp(F.lgamma(x))),
  // The power series near 0, the continued fraction of erfc (Lentz) elsewhere.
  erf(x) {
    if (!(Math.abs(x) < 2.5)) return Number.isNaN(x) ? x : Math.sign(x) * (1 - F.erfc(Math.abs(x)));
    let term = x, sum = x;
    for (let n = 1; n < 80; n++) { term *= -x * x / n; sum += term / (2 * n + 1); }
    return 2 / Math.sqrt(Math.PI) * sum;
  },
  erfc(x) {
    if (x < 2.5) return 1 - F.erf(x);
    let f = 0;
    for (let n = 80; n > 0; n--) f = n / 2 / (x + f);
    return Math.exp(-x * x) / (Math.sqrt(Math.PI) * (x + f));
  },
};

const COMBINERS = {
  add: [0, (a, b) => a + b], max: [-Infinity, (a, b) => (a > b || a !== a ? a : b)],
  min: [Infinity, (a, b) => (a < b || a !== a ? a : b)], any: [0, (a, b) => +(a || b)], all: [1, (a, b) => +(a && b)],
};

const range = (n) => Array.from({length: n}, (_, k) => k);
const sizeOf = (shape) => shape.reduce((a, b) => a * b, 1);

function stridesOf(shape) {
  const strides = new Array(shape.length);
  for (let k = shape.length - 1, s = 1; k >= 0; s *= shape[k--]) strides[k] = s;
  return strides;
}

// An array whose element at each index is `read(index)`.
function filled(shape, read) {
  const data = new Float64Array(sizeOf(shape)), index = shape.map(() => 0);
  for (let k = 0; k < data.length; k++) {
    data[k] = read(index, k);
    for (let a = shape.length - 1; a >= 0 && ++index[a] === shape[a]; a--) index[a] = 0;
  }
  return {shape, data};
}

const at = (x, index) => { let k = 0; for (let a = 0; a < index.length; a++) k = k * x.shape[a] + index[a]; return x.data[k]; };

function reduced(x, axes, [start, combine]) {
  const kept = x.shape.map((_, a) => a).filter((a) => !axes.includes(a));
  const shape = kept.map((a) => x.shape[a]), strides = stridesOf(shape);
  const data = new Float64Array(sizeOf(shape)).fill(start);
  filled(x.shape, (index, k) => {
    let to = 0;
    kept.forEach((a, j) => { to += index[a] * strides[j]; });
    data[to] = combine(data[to], x.data[k]);
    return 0;
  });
  return {shape, data};
}

function position(x, axis, better) {
  const shape = x.shape.filter((_, a) => a !== axis);
  return filled(shape, (index) => {
    let best = 0, value = NaN;
    for (let k = 0; k < x.shape[axis]; k++) {
      const v = at(x, [...index.slice(0, axis), k, ...index.slice(axis)]);
      if (k === 0 || better(v, value) || (v !== v && value === value)) { best = k; value = v; }
    }
    return best;
  });
}

function running(x, axis, [, combine]) {
  const out = {shape: x.shape, data: Float64Array.from(x.data)}, step = stridesOf(x.shape)[axis];
  filled(x.shape, (index, k) => { if (index[axis]) out.data[k] = combine(out.data[k - step], out.data[k]); return 0; });
  return out;
}

function einsum(subscripts, xs) {
  const [left, result] = subscripts.split("->"), terms = left.split(","), length = {};
  terms.forEach((term, i) => [...term].forEach((c, a) => { length[c] = xs[i].shape[a]; }));
  const summed = [...new Set(left.replace(/,/g, ""))].filter((c) => !result.includes(c));
  const letters = [...result, ...summed], place = Object.fromEntries(letters.map((c, k) => [c, k]));
  const shape = [...result].map((c) => length[c]);
  const lengths = letters.map((c) => length[c]), out = new Float64Array(sizeOf(shape)), inner = sizeOf(summed.map((c) => length[c]));
  const steps = terms.map((term, i) => {
    const strides = stridesOf(xs[i].shape), step = letters.map(() => 0);
    [...term].forEach((c, a) => { step[place[c]] += strides[a]; });
    return step;
  });
  // The last letter is the innermost loop; `from` are the operands' offsets at the others.
  const last = letters.length - 1, count = last < 0 ? 1 : lengths[last], index = letters.map(() => 0), from = terms.map(() => 0);
  const moves = steps.map((step) => (last < 0 ? 0 : step[last])), x = xs[0].data, y = xs.length === 2 ? xs[1].data : null;
  for (let k = 0, total = sizeOf(lengths); k < total; k += count) {
    for (let j = 0; j < count; j++) {
      let product = 1;
      if (y) product = x[from[0] + j * moves[0]] * y[from[1] + j * moves[1]];
      else for (let i = 0; i < xs.length; i++) product *= xs[i].data[from[i] + j * moves[i]];
      out[summed.length ? Math.floor(k / inner) : k + j] += product;
    }
    for (let a = last - 1; a >= 0; a--) {
      const back = ++index[a] === lengths[a];
      for (let i = 0; i < from.length; i++) from[i] += back ? steps[i][a] * (1 - lengths[a]) : steps[i][a];
      if (!back) break;
      index[a] = 0;
    }
  }
  return {shape, data: out};
}

const number = (v) => ({inf: Infinity, "-inf": -Infinity, nan: NaN}[v] ?? +v);

const wrap = (i, n) => { if (i < 0) i += n; if (i < 0 || i >= n) throw new Error(`an index is out of range: ${i} of ${n}`); return i; };

const rowAt = (x, t) => { const size = x.data.length / x.shape[0]; return {shape: x.shape.slice(1), data: x.data.subarray(t * size, (t + 1) * size)}; };

function stack(rows) {
  const data = new Float64Array(rows.length * rows[0].data.length);
  rows.forEach((row, t) => data.set(row.data, t * row.data.length));
  return {shape: [rows.length, ...rows[0].shape], data};
}

// Operations by name: (operands, parameters, the node's record, how to run a graph that it holds) => array; those with
// several results return their parts.
const OPERATIONS = {
  full: (xs, p, n) => { const v = number(p.value); return filled(n.shape, () => v); },
  const: (xs, p, n) => ({shape: n.shape, data: new Float64Array(Uint8Array.from(atob(p.value.array), (c) => c.charCodeAt(0)).buffer)}),
  iota: (xs, p, n) => filled(n.shape, (index) => index[0]),
  size: (xs, p) => ({shape: [], data: Float64Array.of(p.size)}),
  barrier: ([x]) => x, stop_gradient: ([x]) => x,
  cast: ([x], p, n) => ({shape: x.shape, data: x.data.map(n.dtype === "bool" ? (v) => +(v !== 0) : /int/.test(n.dtype) ? Math.trunc : (v) => v)}),
  expand: ([x], p, n) => {
    const kept = n.shape.map((_, a) => a).filter((a) => !p.axes.includes(a));
    return filled(n.shape, (index) => at(x, kept.map((a) => index[a])));
  },
  mean: ([x], p) => {
    const out = reduced(x, p.axes, COMBINERS.add), count = x.data.length / out.data.length;
    return {shape: out.shape, data: out.data.map((v) => v / count)};
  },
  argmax: ([x], p) => position(x, p.axis, (a, b) => a > b),
  argmin: ([x], p) => position(x, p.axis, (a, b) => a < b),
  reshape: ([x], p, n) => ({shape: n.shape, data: x.data}),
  transpose: ([x], p, n) => filled(n.shape, (index) => { const from = []; p.perm.forEach((a, k) => { from[a] = index[k]; }); return at(x, from); }),
  slice: ([x], p, n) => filled(n.shape, (index) => at(x, index.map((i, a) => p.start[a] + i * p.step[a]))),
  flip: ([x], p, n) => filled(n.shape, (index) => at(x, index.map((i, a) => (p.axes.includes(a) ? n.shape[a] - 1 - i : i)))),
  pad: ([x], p, n) => filled(n.shape, (index) => {
    const from = index.map((i, a) => (i - p.low[a]) / (p.interior[a] + 1));
    return from.every((i, a) => Number.isInteger(i) && i >= 0 && i < x.shape[a]) ? at(x, from) : 0;
  }),
  concatenate: (xs, p, n) => {
    const ends = []; let end = 0;
    for (const x of xs) ends.push(end += x.shape[p.axis]);
    return filled(n.shape, (index) => {
      const k = ends.findIndex((e) => index[p.axis] < e), from = [...index];
      from[p.axis] -= k ? ends[k - 1] : 0;
      return at(xs[k], from);
    });
  },
  gather: ([x, ...indices], p, n) => {
    const drawn = indices[0].shape.length;
    return filled(n.shape, (index) => at(x, [...indices.map((i, a) => wrap(at(i, index.slice(0, drawn)), x.shape[a])), ...index.slice(drawn)]));
  },
  scatter_add: ([u, ...indices], p, n) => {
    const out = filled(n.shape, () => 0), strides = stridesOf(n.shape), drawn = indices[0].shape.length;
    filled(u.shape, (index, k) => {
      const to = [...indices.map((i, a) => wrap(at(i, index.slice(0, drawn)), n.shape[a])), ...index.slice(drawn)];
      out.data[to.reduce((s, i, a) => s + i * strides[a], 0)] += u.data[k];
      return 0;
    });
    return out;
  },
  gather_sum: ([x, from, to], p, n) => {
    const out = filled(n.shape, () => 0), width = sizeOf(n.shape.slice(1));
    from.data.forEach((f, k) => {
      const source = wrap(f, x.shape[0]) * width, target = wrap(to.data[k], n.shape[0]) * width;
      for (let j = 0; j < width; j++) out.data[target + j] += x.data[source + j];
    });
    return out;
  },
  proj: ([x], p) => x.parts[p.index],
  scan: (xs, p, n, run) => {
    const [shared, carried] = p.counts, slices = xs.slice(shared + carried), turns = [];
    let carry = xs.slice(shared, shared + carried);
    for (let k = 0; k < p.length; k++) {
      const t = p.reverse ? p.length - 1 - k : k;
      const out = run(0, [...xs.slice(0, shared), ...carry, ...slices.map((x) => rowAt(x, t))]);
      carry = out.slice(0, carried);
      turns[t] = out.slice(carried);
    }
    if (!turns.length) throw new Error("a loop of no turn is not evaluated here");
    return {parts: [...carry, ...turns[0].map((_, j) => stack(turns.map((out) => out[j])))]};
  },
  while: (xs, p, n, run) => {
    const shared = xs.slice(0, p.count);
    let state = xs.slice(p.count);
    while (run(0, [...shared, ...state])[0].data[0]) state = run(1, [...shared, ...state]);
    return {parts: state};
  },
  switch: ([index, ...xs], p, n, run) => {
    const branch = (v) => Math.min(Math.max(v, 0), n.held.length - 1);
    if (!index.shape.length) return {parts: run(branch(index.data[0]), xs)};
    const lead = index.shape.length, rows = (x, chosen) => { // those of some examples
      const size = x.data.length / index.data.length, data = new Float64Array(size * chosen.length);
      chosen.forEach((b, k) => data.set(x.data.subarray(b * size, (b + 1) * size), k * size));
      return {shape: [chosen.length, ...x.shape.slice(lead)], data};
    };
    let parts = null;
    n.held.forEach((_, i) => {
      const chosen = range(index.data.length).filter((b) => branch(index.data[b]) === i);
      if (!chosen.length) return;
      const results = run(i, xs.map((x, j) => (p.rows[j] ? rows(x, chosen) : x)));
      parts ||= results.map((r, k) => { const shape = p.sums[k] ? r.shape : [...index.shape, ...r.shape.slice(1)]; return {shape, data: new Float64Array(sizeOf(shape))}; });
      results.forEach((r, k) => {
        const size = r.data.length / chosen.length;
        r.data.forEach((v, at) => { if (p.sums[k]) parts[k].data[at] += v; else parts[k].data[chosen[Math.floor(at / size)] * size + at % size] = v; });
      });
    });
    return {parts};
  },
  einsum: (xs, p) => einsum(p.subscripts, xs),
  block_einsum: ([x, y, ...lengths], p, n) => {
    const [left, result] = p.subscripts.split("->"), terms = left.split(","), begin = [0, 0];
    const ragged = (term) => [...term].filter((c) => p.ragged.includes(c));
    const order = (term) => [...ragged(term), ...[...term].filter((c) => !p.ragged.includes(c))].join("");
    const block = (v, k, b) => {
      if (p.kinds[k] !== "packed" && p.kinds[k] !== "stacked") return v;
      const rows = p.kinds[k] === "packed" ? ragged(terms[k]).map((c) => lengths[p.ragged.indexOf(c)].data[b]) : [];
      const shape = [...rows, ...v.shape.slice(1)], from = begin[k];
      return {shape, data: v.data.subarray(from, begin[k] = from + sizeOf(shape))};
    };
    const out = {shape: n.shape, data: new Float64Array(sizeOf(n.shape))};
    let to = 0;
    for (let b = 0; b < lengths[0].data.length; b++) {
      const {data} = einsum(`${terms.map(order).join(",")}->${order(result)}`, [block(x, 0, b), block(y, 1, b)]);
      out.data.set(data, to);
      to += data.length;
    }
    return out;
  },
  segment_ids: ([lengths], p, n) => {
    const data = new Float64Array(sizeOf(n.shape)); let k = 0;
    lengths.data.forEach((count, b) => { data.fill(b, k, k += count); });
    return {shape: n.shape, data};
  },
  argsort: ([x], p, n) => {
    const out = filled(n.shape, () => 0), step = stridesOf(n.shape)[p.axis], length = n.shape[p.axis];
    filled(n.shape, (index, k) => {
      if (index[p.axis]) return 0;
      const order = Array.from({length}, (_, i) => i).sort((i, j) => {
        const a = x.data[k + i * step], b = x.data[k + j * step];
        return a === b || (a !== a && b !== b) ? i - j : a < b || b !== b ? -1 : 1; // NaN come last
      });
      order.forEach((i, j) => { out.data[k + j * step] = i; });
      return 0;
    });
    return out;
  },
};
for (const [op, by] of [["sum", "add"], ["max", "max"], ["min", "min"], ["any", "any"], ["all", "all"], ["max_or_least", "max"],
  ["min_or_largest", "min"]]) OPERATIONS[op] = ([x], p) => reduced(x, p.axes, COMBINERS[by]);
for (const [op, by] of [["cumsum", "add"], ["cummax", "max"], ["cummin", "min"]]) OPERATIONS[op] = ([x], p) => running(x, p.axis, COMBINERS[by]);

const ROUND = {float32: Math.fround, float16: Math.f16round || ((x) => x)};

// Why the page cannot evaluate a stage.
function unable(stage, kernels) {
  const node = stage.nodes.find((n) => !n.input && !(n.op in kernels) && !(n.op in OPERATIONS));
  if (node) return `the page has no function for ${node.op}`;
  if (stage.nodes.some((n) => (n.held || []).some((h) => h.body === undefined))) return "a branch that no example took is not on the page";
  if (stage.nodes.some((n) => n.wide || /^u?int(8|16|32)$|^uint64$/.test(n.dtype || ""))) return "the page has no integers that overflow as the machine's do";
  return "the page holds arrays in part";
}

// A symbolic size: the name of a symbol, or monomials of a factor and names.
function sizeAt(dim, sizes) {
  if (typeof dim !== "string") return dim.reduce((sum, [factor, ...names]) => sum + names.reduce((p, name) => p * sizeAt(name, sizes), factor), 0);
  if (sizes[dim] === undefined) throw new Error(`the size ${dim} does not follow from the arguments`);
  return sizes[dim];
}

function sizesOf(stage, inputs) {
  const sizes = {};
  for (const i of stage.inputs) {
    const n = stage.nodes[i];
    if (n.dims) n.dims.forEach((dim, a) => { if (typeof dim === "string") sizes[dim] = inputs[i].shape[a]; });
  }
  return sizes;
}

function resolved(param, sizes) {
  if (Array.isArray(param)) return param.map((p) => resolved(p, sizes));
  if (param === null || typeof param !== "object") return param;
  return param.dim === undefined ? param : sizeAt(param.dim, sizes);
}

// The node with numbers in place of symbolic sizes.
function sized(n, sizes) {
  if (!n.dims && !n.params) return n;
  const params = Object.fromEntries(Object.entries(n.params || {}).map(([name, p]) => [name, resolved(p, sizes)]));
  return {...n, params, shape: n.dims ? n.shape.map((k, a) => (n.dims[a] ? sizeAt(n.dims[a], sizes) : k)) : n.shape};
}

// Return the arrays of all nodes, given those of the inputs by the index of the node. `bodies` are the stages of the
// graphs that nodes hold; each of their runs goes to `ran(stage, values)`. `left` counts the elements down.
function evaluate(stage, inputs, kernels, {bodies = [], left = {elements: Infinity}, sizes: outer = {}, ran = () => {}} = {}) {
  const values = [], sizes = {...outer, ...sizesOf(stage, inputs)}, nodes = stage.nodes.map((n) => sized(n, sizes));
  left.elements -= nodes.reduce((sum, n) => sum + (n.shape ? sizeOf(n.shape) : 1), 0);
  if (left.elements < 0) throw new Error("this takes more elements than the page evaluates");
  nodes.forEach((n, i) => {
    if (n.input) { values.push(inputs[i]); return; }
    const xs = n.inputs.map((j) => values[j]);
    const run = (k, arrays) => {
      const body = bodies[n.held[k].body], given = [];
      if (!body) throw new Error(`the page lacks a graph that did not run: ${n.held[k].name}`);
      body.inputs.forEach((input, j) => { given[input] = arrays[j]; });
      const inner = evaluate(body, given, kernels, {bodies, left, sizes, ran});
      ran(body, inner);
      return body.outputs.map(([, o]) => inner[o]);
    };
    let out;
    if (n.op in kernels) {
      const f = kernels[n.op];
      out = {shape: n.shape, data: new Float64Array(sizeOf(n.shape))};
      for (let k = 0; k < out.data.length; k++) out.data[k] = f(...xs.map((x) => x.data[k]));
    } else out = OPERATIONS[n.op](xs, n.params || {}, n, run);
    const round = ROUND[n.dtype];
    if (round) out.data = out.data.map(round);
    if (n.dtype === "int64" && out.data.some((v) => Math.abs(v) > 2 ** 53)) throw new Error(`an integer is beyond 2^53: ${n.name} = ${n.call}`);
    values.push(out);
  });
  return values;
}

if (typeof module !== "undefined") module.exports = {F, OPERATIONS, evaluate, unable};
