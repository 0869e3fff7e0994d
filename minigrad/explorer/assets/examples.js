// The examples that a page holds: which of them form the batch, the arguments of each stage that follow from the choice,
// and the values of its nodes.
"use strict";

const sums = (lengths) => lengths.reduce((all, n) => [...all, all[all.length - 1] + n], [0]);

const TURNS = 12; // runs of a held graph whose values are kept

class Examples {
  constructor(data, stages, bodies, arrays, kernels) {
    const record = data.examples || {arrays: [], leaves: [], lengths: {"": []}, total: 0, shown: 0};
    Object.assign(this, {record, stages, bodies, kernels, play: data.play, limit: data.limit, leaves: record.leaves, lengths: record.lengths});
    this.count = record.lengths[""].length;
    this.initial = record.arrays.map((k) => arrays[k]);
    this.ragged = Object.keys(record.lengths).length > 1;
    this.choosable = this.count > 1 && stages.some((s) => s.kind === "batch" && this.play[s.index]);
    this.batch = range(record.shown);
    this.restore();
  }

  // Take the arrays as they were before all edits.
  restore() {
    this.held = [...this.initial];
    this.edited = false;
    this.known = new Map();
  }

  get chosen() { return this.batch.length !== this.record.shown || this.batch.some((b, k) => b !== k); }
  get changed() { return this.edited || this.chosen; }

  choose(batch) {
    this.batch = [...batch].sort((a, b) => a - b);
    this.known.clear();
  }

  // The lengths of the chosen examples along a packed axis, or undefined.
  lengthsOf(name) { return name && this.lengths[name] ? this.batch.map((b) => this.lengths[name][b]) : undefined; }

  // The examples in a stage, in order; `focus` is the one in a stage of one example.
  members(s, focus) {
    return s.kind === "batch" ? this.batch : s.kind === "copies" ? this.batch.slice(0, s.copies) : s.kind === "first" ? [0] : [focus === null ? this.batch[0] : focus];
  }

  rows(leaf, b) { return leaf.rows.reduce((n, name) => n * this.lengths[name][b], 1); }

  // For each example of a list: the first of its rows among those of all held examples, their number, and the shifts of
  // an index into all rows and into those of the list.
  places(leaf, list) {
    const first = sums(range(this.count).map((b) => this.rows(leaf, b)));
    const target = leaf.target === undefined ? null : this.lengths[leaf.target];
    const from = target && sums(target), to = target && sums(list.map((b) => target[b]));
    return list.map((b, k) => ({b, first: first[b], rows: first[b + 1] - first[b], from: target ? from[b] : 0, to: target ? to[k] : 0, size: target ? target[b] : 0}));
  }

  // Call `copy(position of all rows, position in the list, elements, place)` for each run of elements of a list.
  runs(leaf, shape, list, copy) {
    const outer = sizeOf(shape.slice(0, leaf.axis)), inner = sizeOf(shape.slice(leaf.axis + 1)), places = this.places(leaf, list);
    let at = 0;
    for (let o = 0; o < outer; o++) {
      for (const place of places) {
        copy((o * shape[leaf.axis] + place.first) * inner, at, place.rows * inner, place);
        at += place.rows * inner;
      }
    }
    return at;
  }

  // The rows of some examples of an argument, with indices that count the rows of these alone.
  take(j, list) {
    const leaf = this.leaves[j], whole = this.held[j];
    if (!leaf) return whole;
    const shape = [...whole.shape];
    shape[leaf.axis] = this.places(leaf, list).reduce((n, p) => n + p.rows, 0);
    const data = new Float64Array(sizeOf(shape));
    this.runs(leaf, whole.shape, list, (from, to, count, p) => {
      for (let k = 0; k < count; k++) {
        const v = whole.data[from + k];
        data[to + k] = leaf.target === undefined || v === leaf.null ? v : v - p.from + p.to;
      }
    });
    return {shape, data};
  }

  // The whole argument with other rows for some examples.
  put(j, list, part) {
    const leaf = this.leaves[j], whole = this.held[j];
    if (!leaf) return {shape: whole.shape, data: part.data};
    const data = Float64Array.from(whole.data);
    this.runs(leaf, whole.shape, list, (to, from, count, p) => {
      for (let k = 0; k < count; k++) {
        const v = part.data[from + k], index = leaf.target !== undefined && v !== leaf.null;
        if (index && (v < p.to || v >= p.to + p.size)) throw new Error(`the indices of example ${p.b} are its rows: ${p.to} to ${p.to + p.size - 1}, not ${v}`);
        data[to + k] = index ? v - p.to + p.from : v;
      }
    });
    return {shape: whole.shape, data};
  }

  // The argument that an input of a stage is part of: those of one ragged example are found by name.
  argument(s, place) {
    if (s.kind !== "first") return place;
    const batch = this.stages.find((t) => t.kind === "batch"), name = s.nodes[s.inputs[place]].name;
    return batch.inputs.findIndex((i) => batch.nodes[i].name === name);
  }

  derived(s, n) { const leaf = this.leaves[this.argument(s, s.inputs.indexOf(n.index))]; return Boolean(leaf && leaf.derived); }

  // The arrays of a stage's inputs, by the index of the node.
  inputs(s, focus) {
    const list = this.members(s, focus), inputs = [];
    if (s.kind === "copies" && list.length < s.copies) throw new Error(`this stage spells out ${s.copies} examples, and the batch has ${list.length}`);
    s.inputs.forEach((i, place) => {
      const n = s.nodes[i], a = this.take(this.argument(s, place), list);
      if (a.part) throw new Error("the page holds a part of an argument alone");
      inputs[i] = s.kind === "one" || s.kind === "first" ? {shape: n.shape, data: a.data} : a;
    });
    return inputs;
  }

  evaluated(s, inputs, ran) { return evaluate(s, inputs, this.kernels, {bodies: this.bodies, left: {elements: this.limit}, ran}); }

  // The values of all nodes of a stage as {values}, or {error}.
  results(s, focus) {
    const name = `${s.index} ${this.members(s, focus)[0]}`;
    if (!this.known.has(name)) {
      try {
        if (!this.play[s.index]) throw new Error(unable(s, this.kernels));
        const turns = new Map(); // the first runs of each graph that a node holds
        const ran = (body, values) => { if (!turns.has(body)) turns.set(body, []); if (turns.get(body).length < TURNS) turns.get(body).push(values); };
        this.known.set(name, {values: this.evaluated(s, this.inputs(s, focus), ran), turns});
      } catch (error) {
        this.known.set(name, {error: error.message});
      }
    }
    return this.known.get(name);
  }

  // Whether the values of a stage are others than those that the library computed.
  altered(s, focus) { return this.edited || (s.kind === "one" ? this.members(s, focus)[0] !== 0 : s.kind !== "first" && this.chosen); }

  // Take new arrays for inputs of a stage; an error leaves all as it was.
  change(s, inputs, focus) {
    this.evaluated(s, inputs);
    const held = [...this.held];
    s.inputs.forEach((i, place) => { const j = this.argument(s, place); held[j] = this.put(j, this.members(s, focus), inputs[i]); });
    Object.assign(this, {held, edited: true});
    this.known.clear();
  }
}
