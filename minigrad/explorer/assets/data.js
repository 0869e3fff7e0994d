// The data of a page: arrays that are decoded when they are read, and stages whose nodes are made from columns.
"use strict";

const ENCODINGS = {f8: Float64Array, f4: Float32Array, i1: Int8Array, i2: Int16Array, i4: Int32Array};

function bytesOf(text) {
  const decoded = atob(text), bytes = new Uint8Array(decoded.length);
  for (let k = 0; k < bytes.length; k++) bytes[k] = decoded.charCodeAt(k);
  return bytes;
}

// Define a property at its first reading.
function once(object, name, value) {
  Object.defineProperty(object, name, {value});
  return value;
}

class HeldArray {
  constructor({data, code = "f8", ...fields}) { Object.assign(this, fields, {text: data, code}); }

  get data() { return once(this, "data", Float64Array.from(new ENCODINGS[this.code](bytesOf(this.text).buffer))); }
}

class Stage {
  constructor(record, index, body, tables) {
    const {nodes, ...fields} = record;
    Object.assign(this, fields, {columns: nodes, index, body, tables});
  }

  get nodes() {
    const c = this.columns, tables = Object.keys(this.tables), none = [];
    const numbers = ["key", "value", "cotangent", "of", "copy"].filter((name) => name in c);
    const nodes = c.name.map((name, index) => {
      const n = {rules: none, axes: none, index, stage: this, name: typeof name === "number" ? `%${name}` : name, inputs: c.inputs[index].map((back) => index - back)};
      for (const table of tables) Object.assign(n, this.tables[table][c[table][index]]);
      for (const field of numbers) if (c[field][index] >= 0) n[field] = c[field][index];
      if (c.held && c.held[index]) n.held = c.held[index];
      return n;
    });
    for (const n of nodes) {
      n.template = n.call;
      n.call = n.input ? n.name : called(n, (i) => nodes[i].name);
    }
    return once(this, "nodes", nodes);
  }

  // The nodes that read each node, by index.
  get readers() {
    const readers = this.nodes.map(() => []);
    this.nodes.forEach((n) => n.inputs.forEach((i) => readers[i].push(n.index)));
    return once(this, "readers", readers);
  }

  get byKey() { return once(this, "byKey", grouped(this.nodes.filter((n) => !n.literal), (n) => n.key)); }

  // The nodes at which each node arrives as a cotangent.
  get arrivals() { return once(this, "arrivals", grouped(this.nodes.filter((n) => n.cotangent !== undefined), (n) => n.cotangent)); }

  // The nodes that a derivative rule made for each node.
  get derived() { return once(this, "derived", grouped(this.nodes.filter((n) => n.of !== undefined && !n.literal), (n) => n.of)); }
}

// The call of a node with a text for each operand.
const called = (n, text) => n.template.replace(/⟦(\d+)⟧/g, (_, k) => text(n.inputs[+k]));

function grouped(items, key) {
  const groups = new Map();
  for (const item of items) {
    const k = key(item);
    if (groups.has(k)) groups.get(k).push(item); else groups.set(k, [item]);
  }
  return groups;
}
