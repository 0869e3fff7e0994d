// Layered drawing of a directed graph (Sugiyama's method), as in `minigrad/draw/layout.py`: ranks, an order with few
// crossings, and coordinates that keep edges straight. Edges that leave a box share their way, and fork.
"use strict";

const APART = 22, LANES = 14, GAP = 26, PORTS = 22; // between boxes of a layer, edges, layers, and ends at one box
const HUB = 64; // pairs of neighbours above which two boxes are not exchanged

function neighbours(count, links) {
  const above = Array.from({length: count}, () => []), below = Array.from({length: count}, () => []);
  for (const [u, v] of links) { above[v].push(u); below[u].push(v); }
  return [above, below];
}

// A layer for each box, such that edges (from a smaller to a larger index) go down and are short.
function ranksOf(count, edges) {
  const [above, below] = neighbours(count, edges), ranks = new Array(count).fill(0);
  for (let v = 0; v < count; v++) for (const u of above[v]) ranks[v] = Math.max(ranks[v], ranks[u] + 1);
  // A box moves within the slack between its neighbours to the layer with the shortest edges in total. Ties go down in
  // one sweep and up in the next, so that chains move as a whole.
  for (const [down, tie] of [[true, count], [false, count], [true, count], [false, count], [true, count], [false, 3]]) {
    for (let k = 0; k < count; k++) {
      const v = down ? count - 1 - k : k;
      if (!above[v].length && !below[v].length) continue;
      const pull = below[v].length - above[v].length;
      const low = Math.max(...above[v].map((u) => ranks[u] + 1)), high = Math.min(...below[v].map((w) => ranks[w] - 1));
      if (down && below[v].length && (pull > 0 || (pull === 0 && high - ranks[v] <= tie))) ranks[v] = high;
      else if (!down && above[v].length && (pull < 0 || (pull === 0 && ranks[v] - low <= tie))) ranks[v] = low;
    }
  }
  const used = new Map([...new Set(ranks)].sort((a, b) => a - b).map((r, i) => [r, i]));
  return ranks.map((r) => used.get(r));
}

// The number of crossings between links of a box and links of the box to its right.
function crossedPairs(first, second, position) {
  if (first.length * second.length > HUB) return 0; // the sweeps place it, and counting here would be quadratic
  let n = 0;
  for (const a of first) for (const b of second) if (position[a] > position[b]) n++;
  return n;
}

function countCrossings(layers, links, position) {
  const rank = [], between = layers.map(() => []);
  layers.forEach((layer, r) => layer.forEach((v) => { rank[v] = r; }));
  for (const [u, v] of links) between[rank[u]].push([position[u], position[v]]);
  let total = 0;
  between.slice(0, -1).forEach((pairs, r) => {
    const width = layers[r + 1].length, tree = new Array(width + 1).fill(0); // a Fenwick tree over the lower layer
    pairs.sort((a, b) => a[0] - b[0] || a[1] - b[1]).forEach(([, low], seen) => {
      const place = Math.floor(low + (width - 1) / 2) + 1;
      let before = 0;
      for (let i = place; i; i &= i - 1) before += tree[i];
      total += seen - before;
      for (let i = place; i <= width; i += i & -i) tree[i]++;
    });
  });
  return total;
}

function exchange(layers, above, below, position) {
  for (let round = 0; round < 2; round++) {
    let changed = false;
    for (const layer of layers) {
      for (let i = 0; i + 1 < layer.length; i++) {
        const u = layer[i], v = layer[i + 1];
        let saved = 0;
        for (const near of [above, below]) saved += crossedPairs(near[u], near[v], position) - crossedPairs(near[v], near[u], position);
        if (saved > 0) { layer[i] = v; layer[i + 1] = u; [position[u], position[v]] = [position[v], position[u]]; changed = true; }
      }
    }
    if (!changed) return;
  }
}

// The layers in the order with the fewest crossings found, from several orders at the start where the drawing is small.
function fewestCrossings(layers, links, above, below) {
  const starts = [[layers, true]];
  if (above.length < 1000) starts.push([layers.map((layer) => [...layer].reverse()), false], [layers, false], [depthFirst(layers, below), true]);
  let [best, order] = [Infinity, layers];
  for (const [start, down] of starts) {
    const [crossings, found] = swept(start, down, links, above, below);
    if (crossings < best) [best, order] = [crossings, found];
  }
  return order;
}

// The layers with each box beside the boxes that the walk from the first one meets before and after it.
function depthFirst(layers, below) {
  const seen = new Map(), stack = [...layers.flat()].reverse();
  while (stack.length) {
    const v = stack.pop();
    if (!seen.has(v)) { seen.set(v, seen.size); stack.push(...[...below[v]].reverse()); }
  }
  return layers.map((layer) => [...layer].sort((u, v) => seen.get(u) - seen.get(v)));
}

// Sweeps by the mean position of neighbours, downwards and upwards in turn, then exchanges, as [crossings, layers].
function swept(layers, downFirst, links, above, below) {
  const current = layers.map((layer) => [...layer]), position = new Array(above.length).fill(0), key = [];
  const number = (layer) => layer.forEach((v, i) => { position[v] = i - (layer.length - 1) / 2; });
  current.forEach(number);
  let best = Infinity, order = current;
  for (let sweep = 0; sweep < (above.length < 4000 ? 14 : 6) && best > 0; sweep++) {
    const down = (sweep % 2 === 0) === downFirst, near = down ? above : below;
    for (const layer of down ? current : [...current].reverse()) {
      for (const v of layer) key[v] = near[v].length ? near[v].reduce((s, u) => s + position[u], 0) / near[v].length : position[v];
      layer.sort((u, v) => key[u] - key[v]);
      number(layer);
    }
    exchange(current, above, below, position);
    const crossings = countCrossings(current, links, position);
    if (crossings < best) { best = crossings; order = current.map((layer) => [...layer]); }
  }
  return [best, order];
}

// The non-decreasing sequence nearest to the targets in weighted least squares.
function monotone(targets, weights) {
  const blocks = []; // mean, weight, length
  targets.forEach((value, k) => {
    blocks.push([value, weights[k], 1]);
    while (blocks.length > 1 && blocks[blocks.length - 2][0] > blocks[blocks.length - 1][0]) {
      const [b, w, n] = blocks.pop(), [a, v, m] = blocks[blocks.length - 1];
      blocks[blocks.length - 1] = [(a * v + b * w) / (v + w), v + w, m + n];
    }
  });
  return blocks.flatMap(([mean, , length]) => new Array(length).fill(mean));
}

// The boxes, plus one point in each layer that an edge passes.
class Net {
  constructor(sizes, edges, ranks) {
    Object.assign(this, {boxes: sizes.length, widths: sizes.map(([w]) => w), heights: sizes.map(([, h]) => h), ranks: [...ranks], links: [], ends: []});
    this.ports = new Map(); // box -> links that enter it, in order
    const lanes = new Map();
    edges.forEach(([u, v, way], edge) => {
      const name = `${u} ${way}`, lane = lanes.get(name) || lanes.set(name, [u]).get(name), pieces = lane.pieces || (lane.pieces = []);
      while (ranks[u] + lane.length < ranks[v]) {
        this.ranks.push(ranks[u] + lane.length);
        this.widths.push(0);
        this.heights.push(0);
        lane.push(this.ranks.length - 1);
        pieces.push(this.link(lane[lane.length - 2], lane[lane.length - 1]));
      }
      const last = this.link(lane[ranks[v] - ranks[u] - 1], v);
      for (const k of [...pieces.slice(0, ranks[v] - ranks[u] - 1), last]) this.ends[k].push(edge);
      if (!this.ports.has(v)) this.ports.set(v, []);
      this.ports.get(v).push(last);
    });
    [this.above, this.below] = neighbours(this.ranks.length, this.links);
    this.layers = Array.from({length: Math.max(...this.ranks) + 1}, () => []);
    this.ranks.forEach((r, v) => this.layers[r].push(v));
    this.loose = new Set(); // boxes with one link, which follow the box at its other end
    for (const [layers, before, after] of [[this.layers, this.above, this.below], [[...this.layers].reverse(), this.below, this.above]]) {
      const hanging = new Set();
      for (const v of layers.flat()) if (after[v].length === 1 && (!before[v].length || (before[v].length === 1 && hanging.has(before[v][0])))) hanging.add(v);
      hanging.forEach((v) => this.loose.add(v));
    }
    this.layers = fewestCrossings(this.layers, this.links, this.above, this.below);
  }

  link(u, v) { this.links.push([u, v]); this.ends.push([]); return this.links.length - 1; }

  // Spread the edges that enter a box over its upper side.
  placePorts(unordered) {
    const position = [];
    this.layers.forEach((layer) => layer.forEach((v, i) => { position[v] = i; }));
    this.shift = new Array(this.links.length).fill(0); // of a link's end, from the middle of the box
    for (const [v, ports] of this.ports) {
      if (unordered[v]) ports.sort((p, q) => position[this.links[p][0]] - position[this.links[q][0]]);
      let step = Math.min(PORTS, (this.widths[v] - 24) / Math.max(ports.length, 1)), middle = (ports.length - 1) / 2;
      const main = ports.map((p, i) => (this.loose.has(this.links[p][0]) ? -1 : i)).filter((i) => i >= 0);
      if (main.length === 1 && ports.length > 1) { // a chain with something joining from the side stays straight
        middle = main[0];
        step = Math.min(step, (this.widths[v] - 24) / 2 / (ports.length - 1));
      }
      ports.forEach((p, i) => { this.shift[p] = (i - middle) * step; });
    }
  }

  gap(u, v) { return (this.widths[u] + this.widths[v]) / 2 + (u < this.boxes && v < this.boxes ? APART : LANES); }

  // Pull everything to the mean of its neighbours, as far as the layer's order leaves room.
  place() {
    const count = this.ranks.length, pulls = [0, 1].map(() => Array.from({length: count}, () => [])), x = new Array(count).fill(0);
    this.links.forEach(([u, v], k) => {
      const passing = (u >= this.boxes) + (v >= this.boxes); // long edges have the largest weight, then the only edge of a box
      let weight = [1, 3, 9][passing] / (passing ? 1 : Math.sqrt(Math.max(this.above[v].length, 1)));
      if (this.loose.has(u) !== this.loose.has(v)) weight = 0.3; // it gives way to the boxes beside it
      pulls[0][v].push([u, -this.shift[k], weight * (this.loose.has(u) ? 0.02 : 1)]);
      pulls[1][u].push([v, this.shift[k], weight * (this.loose.has(v) ? 0.02 : 1)]);
    });
    const offsets = this.layers.map((layer) => {
      let extent = 0;
      const offset = layer.map((v, i) => (extent += i ? this.gap(layer[i - 1], v) : 0));
      layer.forEach((v, i) => { x[v] = offset[i] - extent / 2; });
      return offset;
    });
    const rounds = count < 300 ? 40 : count < 1500 ? 24 : 14, order = this.layers.map((_, r) => r);
    for (let sweep = 0; sweep < rounds; sweep++) {
      const down = sweep % 2 === 0, both = sweep >= rounds - 8;
      for (const r of down ? order : [...order].reverse()) {
        const layer = this.layers[r], offset = offsets[r], targets = [], weights = [];
        layer.forEach((v, i) => {
          let weight = 0, goal = 0;
          for (const side of both ? [0, 1] : [down ? 0 : 1]) for (const [u, s, w] of pulls[side][v]) { weight += w; goal += (x[u] + s) * w; }
          targets.push((weight ? goal / weight : x[v]) - offset[i]);
          weights.push(weight || 0.05);
        });
        monotone(targets, weights).forEach((start, i) => { x[layer[i]] = start + offset[i]; });
      }
    }
    Object.assign(this, {x, pulls});
    for (let k = 0; k < 4; k++) this.straighten();
  }

  // Put runs of links exactly under each other, as far down as there is room for each run.
  straighten() {
    const x = this.x, left = new Map(), right = new Map(), linked = x.filter((_, v) => this.above[v].length || this.below[v].length);
    this.middle = linked.length ? linked.reduce((a, b) => a + b, 0) / linked.length : 0;
    for (const layer of this.layers) for (let i = 0; i + 1 < layer.length; i++) { right.set(layer[i], layer[i + 1]); left.set(layer[i + 1], layer[i]); }
    const level = ([u, v]) => ((u >= this.boxes) + (v >= this.boxes) === 2 ? 0 : this.below[u].length === 1 && this.above[v].length === 1 ? 1 : this.loose.has(u) || this.loose.has(v) ? 3 : 2);
    const order = this.links.map((link, k) => [level(link), Math.abs(x[link[0]] - x[link[1]] - this.shift[k]), k]).sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
    const under = new Map(), taken = new Set();
    for (const [, , k] of order) {
      const [u, v] = this.links[k];
      if (!under.has(u) && !taken.has(v)) { under.set(u, [v, this.shift[k]]); taken.add(v); }
    }
    for (let first = 0; first < x.length; first++) {
      if (taken.has(first)) continue;
      let run = [], shift = 0, low = -Infinity, high = Infinity, box = first;
      while (box !== null) {
        const lo = left.has(box) ? x[left.get(box)] + this.gap(left.get(box), box) + shift : -Infinity;
        const hi = right.has(box) ? x[right.get(box)] - this.gap(box, right.get(box)) + shift : Infinity;
        if (run.length && Math.max(lo, low) > Math.min(hi, high)) { this.set(run, low, high); run = []; low = -Infinity; high = Infinity; }
        low = Math.max(lo, low);
        high = Math.min(hi, high);
        run.push([box, shift]);
        const [next, more] = under.get(box) || [null, 0];
        box = next;
        shift += more;
      }
      this.set(run, low, high);
    }
  }

  // Move a run as a whole to the mean position of its links, within its limits.
  set(run, low, high) {
    const inside = new Set(run.map(([v]) => v));
    let total = 0, weight = 0;
    for (const [v, shift] of run) for (const side of this.pulls) for (const [u, s, w] of side[v]) if (!inside.has(u)) { total += (this.x[u] + s + shift) * w; weight += w; }
    const target = Math.max(low, Math.min(weight ? total / weight : this.middle, high));
    for (const [v, shift] of run) this.x[v] = target - shift;
  }

  // Move components that no edge holds towards the ones on their left, as far as every layer has room.
  closeUp() {
    const component = range(this.x.length), left = new Map();
    const root = (v) => { while (component[v] !== v) v = component[v] = component[component[v]]; return v; };
    for (const [u, v] of this.links) component[root(u)] = root(v);
    for (const layer of this.layers) { // boxes between two of a component move with it
      const spans = new Map();
      layer.forEach((v, i) => {
        for (const u of layer.slice(spans.has(root(v)) ? spans.get(root(v)) : i, i)) component[root(u)] = root(v);
        spans.set(root(v), i);
        if (i) left.set(v, layer[i - 1]);
      });
    }
    const groups = [...grouped(range(this.x.length), root).values()];
    const edge = (group) => group.reduce((least, v) => Math.min(least, this.x[v]), Infinity);
    for (const group of groups.map((g) => [edge(g), g]).sort((a, b) => a[0] - b[0]).map(([, g]) => g)) {
      const inside = new Set(group);
      let room = Infinity;
      for (const v of group) if (left.has(v) && !inside.has(left.get(v))) room = Math.min(room, this.x[v] - this.x[left.get(v)] - this.gap(left.get(v), v));
      if (room > 0 && room < Infinity) for (const v of group) this.x[v] -= room;
    }
  }

  // The middles of the boxes, the links as curves with the edges on each, and the size of the drawing.
  drawing() {
    const left = this.x.reduce((least, c, v) => Math.min(least, c - this.widths[v] / 2), Infinity), x = this.x.map((c) => c - left);
    const reach = this.layers.map(() => 0), tops = [], depths = [];
    this.links.forEach(([u, v], k) => { reach[this.ranks[u]] = Math.max(reach[this.ranks[u]], Math.abs(x[v] + this.shift[k] - x[u])); });
    let y = 0;
    this.layers.forEach((layer, r) => {
      tops.push(y);
      depths.push(layer.reduce((most, v) => Math.max(most, this.heights[v]), 0));
      y += depths[r] + GAP + Math.min(reach[r] * 0.06, GAP);
    });
    const top = this.ranks.map((r, v) => tops[r] + (depths[r] - this.heights[v]) / 2);
    const curves = this.links.map(([u, v], k) => ({
      edges: this.ends[k], head: v < this.boxes, x: x[u], low: tops[this.ranks[u]] + depths[this.ranks[u]], start: u < this.boxes ? top[u] + this.heights[u] : tops[this.ranks[u]],
      to: x[v] + this.shift[k], high: tops[this.ranks[v]], end: v < this.boxes ? top[v] : tops[this.ranks[v]]}));
    const last = this.layers.length - 1;
    return {places: range(this.boxes).map((v) => [x[v], top[v] + this.heights[v] / 2]), curves, width: x.reduce((most, c, v) => Math.max(most, c + this.widths[v] / 2), 0), height: tops[last] + depths[last]};
  }
}

// Lay out boxes of some sizes; an edge [u, v] may go either way, as groups of operations can depend on each other.
function layered(sizes, edges, unordered) {
  const down = edges.map(([u, v]) => (u < v ? [u, v, 1] : [v, u, -1])), net = new Net(sizes, down, ranksOf(sizes.length, down));
  net.placePorts(unordered);
  net.place();
  net.closeUp();
  return net.drawing();
}
