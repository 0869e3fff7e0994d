// The page: stages, graphs with values, the inspector, steps, and edited values.
"use strict";

(function main(root, data, kernels) {
  const arrays = data.arrays.map((record) => new HeldArray(record));
  const stages = [...data.stages, ...data.bodies].map((record, k) => new Stage({...record, arrays}, k, k >= data.stages.length, data.tables));
  const listed = stages.slice(0, data.stages.length); // without the bodies of loops
  const examples = new Examples(data, listed, stages.slice(listed.length), arrays, kernels);
  const state = {stage: 0, second: -1, selected: null, step: null, example: null, trivial: false, open: new Set(), turn: 0, from: null, table: false, find: ""};

  // -- values ------------------------------------------------------------------------------------

  const shapeHeld = (a) => a.part || a.shape;

  // The arrays of a stage's nodes, where they are others than those that the library computed; null where there are none.
  function evaluatedValues(s) {
    const parent = s.body ? ownerOf(s) : s, {values, turns} = examples.results(parent, state.example);
    if (!s.body) return values || null;
    const runs = turns && turns.get(s);
    return runs ? runs[Math.min(state.turn, runs.length - 1)] : null;
  }

  // The listed stage in which a graph is held.
  const owners = new Map();
  function ownerOf(body) {
    if (!owners.size) {
      const visit = (s, owner) => s.nodes.forEach((n) => (n.held || []).forEach((h) => { if (h.body !== undefined) { const inner = stages[listed.length + h.body]; owners.set(inner, owner); visit(inner, owner); } }));
      listed.forEach((s) => visit(s, s));
    }
    return owners.get(body);
  }

  const altered = (s) => examples.altered(s.body ? ownerOf(s) : s, state.example);

  // The array of a node, or null where it has none.
  function valueOf(s, n) {
    if (altered(s)) { const all = evaluatedValues(s), a = all && all[n.index]; return a && a.data ? a : null; }
    const k = s.turns ? s.turns[Math.min(state.turn, s.turns.length - 1)][n.index] : n.value;
    return k === undefined || k === null ? null : arrays[k];
  }

  // A number as NumPy prints it, shortened to some digits.
  function word(v, digits = 5) {
    if (Number.isNaN(v)) return "nan";
    if (!Number.isFinite(v)) return v > 0 ? "inf" : "-inf";
    if (Number.isInteger(v) && Math.abs(v) < 1e7) return String(v);
    return String(+v.toPrecision(digits));
  }

  // Why a stage has no values for the chosen batch, or null.
  const lack = (s) => (altered(s) ? examples.results(s.body ? ownerOf(s) : s, state.example).error || null : null);

  // The rows of example b in a node's value, as [axis, first, behind], or null where it has none.
  function span(s, n, b) {
    const axis = n.axes.findIndex(Boolean), whole = s.body ? ownerOf(s) : s;
    if (b === null || axis < 0 || whole.kind === "one" || whole.kind === "first") return null;
    const place = examples.count ? examples.members(whole, b).indexOf(b) : b < s.size ? b : -1;
    if (place < 0) return null;
    const lengths = examples.ragged && examples.lengthsOf(n.axes[axis]);
    if (lengths) { const ends = sums(lengths); return [axis, ends[place], ends[place + 1]]; }
    const dim = n.dims[axis], factor = typeof dim === "string" ? 1 : dim.length === 1 && dim[0].length === 2 ? dim[0][0] : 0;
    return factor ? [axis, place * factor, (place + 1) * factor] : null;
  }

  // The elements of example b of a node's value, or all of them.
  function row(s, n, b) {
    const a = valueOf(s, n), rows = span(s, n, b);
    if (!a || !rows || a.part) return a;
    const [axis, first, behind] = rows, own = behind - first, inner = sizeOf(a.shape.slice(axis + 1)), all = a.shape[axis];
    const kept = own === 1 && !examples.lengthsOf(n.axes[axis]) ? [] : [own];
    const data = new Float64Array(sizeOf(a.shape.slice(0, axis)) * own * inner);
    for (let o = 0; o * own * inner < data.length; o++) data.set(a.data.subarray((o * all + first) * inner, (o * all + behind) * inner), o * own * inner);
    return {shape: [...a.shape.slice(0, axis), ...kept, ...a.shape.slice(axis + 1)], data};
  }

  // A small value as text, with as many digits as `room` characters hold.
  function brief(a, room = Infinity) {
    if (!a) return "";
    if (a.data.length === 1 && !a.part) {
      const v = a.data[0], texts = [...[5, 4, 3].map((digits) => word(v, digits)), ...[2, 1, 0].map((digits) => v.toExponential(digits))];
      return texts.find((text) => text.length <= room) || texts[5];
    }
    if (!a.part && a.data.length <= 4) return `[${Array.from(a.data, (v) => word(v, 3)).join(" ")}]`;
    return "";
  }

  const layouts = new Map();

  function layout(s) {
    const name = `${s.index} ${state.trivial} ${[...state.open].join()}`;
    if (!layouts.has(name)) layouts.set(name, laidOut(s, state.trivial, state.open));
    return layouts.get(name);
  }

  // -- colours -----------------------------------------------------------------------------------------

  const SEQUENTIAL = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
  const DIVERGING = [[0, 88, 165], [146, 190, 226], [247, 247, 247], [244, 180, 110], [186, 84, 0]];

  function colour(v, low, high, scale) {
    if (Number.isNaN(v)) return [255, 0, 200];
    if (!Number.isFinite(v)) return [220, 20, 30];
    const t = high > low ? Math.min(1, Math.max(0, (v - low) / (high - low))) * (scale.length - 1) : (scale.length - 1) / 2;
    const k = Math.min(Math.floor(t), scale.length - 2), f = t - k;
    return scale[k].map((c, j) => Math.round(c + f * (scale[k + 1][j] - c)));
  }

  // A picture of an array: its last axis goes to the right, all others down.
  function heat(a, gradient) {
    const shape = shapeHeld(a), width = shape.length > 1 ? shape[shape.length - 1] : shape.length ? shape[0] : 1;
    const height = Math.max(1, a.data.length / Math.max(1, width));
    let low = Infinity, high = -Infinity;
    for (const v of a.data) if (Number.isFinite(v)) { low = Math.min(low, v); high = Math.max(high, v); }
    if (gradient) { high = Math.max(Math.abs(low), Math.abs(high)); low = -high; }
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, width);
    canvas.height = height;
    const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
    a.data.forEach((v, k) => { image.data.set([...colour(v, low, high, gradient ? DIVERGING : SEQUENTIAL), 255], 4 * k); });
    context.putImageData(image, 0, 0);
    return {canvas, low, high};
  }

  // -- drawing -----------------------------------------------------------------------------------------

  const SVG = "http://www.w3.org/2000/svg";
  function svg(tag, attributes = {}, text) {
    const e = document.createElementNS(SVG, tag);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    if (text !== undefined) e.textContent = text;
    return e;
  }
  function html(tag, attributes = {}, ...children) {
    const e = document.createElement(tag);
    for (const [k, v] of Object.entries(attributes)) {
      if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
      else if (v !== false && v !== null) e.setAttribute(k, v === true ? "" : v);
    }
    e.append(...children.filter((c) => c !== null && c !== undefined));
    return e;
  }

  const views = new Map(); // the zoom of each stage
  const heats = new WeakMap(); // pictures of arrays

  function image(a, gradient) {
    if (!heats.has(a)) heats.set(a, {});
    const known = heats.get(a);
    return known[gradient] || (known[gradient] = heat(a, gradient).canvas.toDataURL());
  }

  // Draw a stage into a pane; `mark` then shows the selection, the step and the example.
  function drawGraph(pane, s) {
    const view = layout(s), picture = svg("svg", {role: "group", "aria-label": `graph: ${s.title}`}), world = svg("g");
    picture.append(world);
    pane.replaceChildren(html("div", {class: "title"}, `${s.title}${s.kind === "one" || s.kind === "first" ? ` · example ${examples.members(s, state.example)[0]}` : ""} · ${view.order.filter((n) => !n.input).length} operations`, lack(s) ? html("div", {class: "error"}, `no values of this batch: ${lack(s)}`) : null), picture);
    const lines = view.lines.map(({path}) => svg("path", {class: "edge", d: path}));
    world.append(...lines, svg("path", {class: "head", d: view.lines.filter((l) => l.head).map((l) => `M${f(l.to)} ${f(l.end)}l-3 -6h6z`).join("")}));
    const drawn = view.boxes.map((box) => {
      const n = box.nodes[0], folded = box.group !== null;
      const g = svg("g", {tabindex: 0, role: "button", transform: `translate(${(box.x - box.width / 2).toFixed(1)} ${(box.y - box.height / 2).toFixed(1)})`, "data-node": n.index});
      g.append(svg("title", {}, folded ? box.nodes.map((m) => `${m.name} = ${m.call}`).slice(0, 30).join("\n") : `${n.name}: ${n.type} = ${n.call}${n.line ? `\n${n.line[0]}:${n.line[1]}  ${n.line[2]}` : ""}`));
      g.append(svg("rect", {class: "box", width: box.width, height: box.height, rx: 6}));
      g.append(svg("text", {x: 8, y: 17}, box.lines[0]), svg("text", {x: 8, y: 31, class: "small"}, box.lines[1]));
      const value = folded ? null : valueOf(s, n), parts = [];
      if (value && box.heat && value.data.length > 1) {
        parts.push(svg("image", {href: image(value, n.role === "gradient"), x: 8, y: 38, width: box.width - 16, height: 17, preserveAspectRatio: "none", style: "image-rendering: pixelated"}));
        if (n.axes.some(Boolean)) parts.push(svg("rect", {class: "row"}));
      } else if (value) parts.push(svg("text", {x: 8, y: 45, class: "value"}, brief(value, Math.floor((box.width - 16) / CHARACTER))));
      g.append(...parts);
      g.setAttribute("aria-label", folded ? `${box.lines.join(" of ")}, folded` : `${n.name}, ${n.input ? "input" : n.call}, ${n.type}${value ? `, ${brief(value)}` : ""}`);
      const results = s.outputs.filter(([, o]) => box.nodes.some((m) => m.index === o)).map(([name]) => name);
      if (results.length) g.append(svg("text", {x: box.width / 2, y: box.height + 12, class: "small", "text-anchor": "middle"}, `→ ${results.slice(0, 2).join(", ")}`));
      const choose = () => { if (folded) { state.open.add(`${s.index} ${box.group.slice(1)}`); draw(); } else select(n); };
      g.addEventListener("click", choose);
      g.addEventListener("keydown", (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); choose(); } });
      world.append(g);
      return {box, g, parts, row: parts[1]};
    });
    zoomable(picture, world, view, s.index);
    return {s, view, drawn, lines};
  }

  function mark({s, view, drawn, lines}) {
    const chosen = state.selected, selected = chosen && chosen.stage === s ? chosen : null;
    const twins = chosen && !selected ? new Set(s.byKey.get(chosen.key) || []) : new Set();
    const near = selected && state.step === null ? related(s, selected.index) : null;
    const done = state.step === null || s.index !== state.stage ? null : new Set(view.order.slice(0, state.step + 1));
    const now = done ? view.order[state.step] : null, close = new Set();
    const copy = s.kind === "copies" && state.example !== null ? examples.members(s, state.example).indexOf(state.example) : -1;
    for (const {box, g, parts, row} of drawn) {
      const n = box.nodes[0], marks = ["node", box.role], any = (test) => box.nodes.some(test);
      if (box.group !== null) marks.push("group");
      if (selected && box.nodes.includes(selected)) marks.push("selected");
      if (any((m) => twins.has(m))) marks.push("twin");
      if (near && any((m) => near.has(m.index))) close.add(box.id); else if (near) marks.push("unrelated");
      if (copy >= 0 && any((m) => m.copy === copy)) marks.push("picked");
      const waiting = done && !n.input && !any((m) => done.has(m));
      if (waiting) marks.push("waiting");
      if (now && box.nodes.includes(now)) marks.push("now");
      if (state.find && any((m) => `${m.name} ${m.call} ${m.line ? m.line.join(" ") : ""}`.toLowerCase().includes(state.find))) marks.push("found");
      g.setAttribute("class", marks.join(" "));
      parts.forEach((p) => { p.style.visibility = waiting ? "hidden" : ""; });
      if (row) {
        const a = valueOf(s, n), rows = a && !a.part && span(s, n, state.example);
        const shape = rows ? a.shape : [], across = rows && rows[0] === shape.length - 1;
        row.style.display = rows && (across || rows[0] === 0) ? "" : "none";
        if (rows) {
          const step = (across ? box.width - 16 : 17) / shape[rows[0]], at = rows[1] * step, wide = (rows[2] - rows[1]) * step;
          for (const [k, v] of Object.entries(across ? {x: 8 + at, y: 38, width: Math.max(wide, 2), height: 17} : {x: 8, y: 38 + at, width: box.width - 16, height: Math.max(wide, 2)})) row.setAttribute(k, v);
        }
      }
    }
    lines.forEach((line, k) => {
      const both = near && view.lines[k].edges.some(([a, b]) => close.has(a) && close.has(b));
      line.setAttribute("class", near ? (both ? "edge related" : "edge unrelated") : "edge");
    });
  }

  // The nodes that a node depends on, those that depend on it, and itself.
  function related(s, start) {
    const found = new Set([start]);
    for (const next of [(i) => s.nodes[i].inputs, (i) => s.readers[i]]) {
      const seen = new Set([start]), stack = [start];
      while (stack.length) for (const i of next(stack.pop())) if (!seen.has(i)) { seen.add(i); found.add(i); stack.push(i); }
    }
    return found;
  }

  function zoomable(picture, world, view, name) {
    const box = picture.parentNode.getBoundingClientRect();
    const fit = () => {
      const k = Math.min(1.4, (box.width || 800) / view.width, ((box.height || 500) - 26) / view.height);
      return {k: Math.max(k, 0.12), x: Math.max(0, ((box.width || 800) - view.width * k) / 2), y: 20};
    };
    const key = `${name} ${Math.round(box.width)} ${Math.round(box.height)}`, at = views.get(key) || fit();
    views.set(key, at);
    const apply = () => world.setAttribute("transform", `translate(${at.x} ${at.y}) scale(${at.k})`);
    const zoom = (factor, x, y) => { const k = Math.min(4, Math.max(0.05, at.k * factor)); at.x = x - (x - at.x) * k / at.k; at.y = y - (y - at.y) * k / at.k; at.k = k; apply(); };
    picture.addEventListener("wheel", (e) => { e.preventDefault(); const r = picture.getBoundingClientRect(); zoom(Math.exp(-e.deltaY / 500), e.clientX - r.left, e.clientY - r.top); }, {passive: false});
    let from = null;
    picture.addEventListener("pointerdown", (e) => { if (!e.target.closest(".node")) { from = [e.clientX - at.x, e.clientY - at.y]; picture.setPointerCapture(e.pointerId); } });
    picture.addEventListener("pointermove", (e) => { if (from) { at.x = e.clientX - from[0]; at.y = e.clientY - from[1]; apply(); } });
    picture.addEventListener("pointerup", () => { from = null; });
    picture.zoom = (factor) => zoom(factor, box.width / 2, box.height / 2);
    picture.fit = () => { Object.assign(at, fit()); apply(); };
    apply();
  }

  // -- the inspector ------------------------------------------------------------------------------------

  const link = (n, text) => html("a", {tabindex: 0, role: "button", onclick: () => select(n, true), onkeydown: (e) => { if (e.key === "Enter") select(n, true); }}, text || n.name);

  function typed(type) {
    const span = html("code");
    type.split(/\b(B\d*'*|[A-Za-z]\w*s)(?=[,\]])/).forEach((part, k) => span.append(k % 2 ? html("span", {class: "batch"}, part) : part));
    return span;
  }

  // The call of a node with numbers in place of names.
  const numbers = (s, n) => called(n, (i) => (s.nodes[i].literal ? "" : brief(row(s, s.nodes[i], state.example))) || s.nodes[i].name);

  function picture(s, n, title, a, gradient) {
    const parts = [html("h3", {}, title)];
    if (a.data.length === 1 && !a.part) return [...parts, editable(s, n, a) ? field(s, n, 0, word(a.data[0], 10)) : html("code", {class: "number"}, word(a.data[0], 10))];
    const {canvas, low, high} = heat(a, gradient);
    const scale = Math.max(1, Math.min(Math.floor(320 / canvas.width), Math.max(6, Math.floor(180 / canvas.height)), 28));
    canvas.className = "heat";
    canvas.style.width = `${canvas.width * scale}px`;
    canvas.style.height = `${Math.min(300, canvas.height * scale)}px`;
    const packed = examples.ragged && s.kind === "batch" && examples.lengthsOf(n.axes[0]);
    if (packed && !a.part) {
      const flat = shapeHeld(a).length === 1, strip = html("div", {class: flat ? "strip flat" : "strip"});
      packed.forEach((rows, k) => { const b = examples.batch[k]; strip.append(html("span", {title: `example ${b}: ${rows} rows`, style: `flex: ${rows}; background: ${hue(b)}`, class: b === state.example ? "picked" : false})); });
      strip.style[flat ? "width" : "height"] = canvas.style[flat ? "width" : "height"];
      parts.push(html("div", {class: flat ? "" : "beside"}, strip, canvas), html("div", {class: "note"}, `rows of ${packed.length} examples: offsets ${shortened(sums(packed)).join(" ")}`));
    } else parts.push(outlined(s, n, a, canvas));
    parts.push(html("div", {class: "note"}, a.data.some(Number.isFinite) ? `${word(low, 4)} to ${word(high, 4)}${gradient ? ", symmetric about 0" : ""}` : "no finite value"));
    if (a.part) parts.push(html("div", {class: "note"}, `shown: the first ${a.part.join(" × ")} of ${a.shape.join(" × ")} elements`));
    if (a.stats) {
      const t = a.stats, some = ["nan", "inf", "zero"].filter((k) => t[k]).map((k) => `${t[k]} ${k}`);
      parts.push(html("div", {class: "note"}, `all elements: ${t.min === null ? "none finite" : `${word(t.min, 4)} to ${word(t.max, 4)}, mean ${word(t.mean, 4)}`}${some.length ? `; ${some.join(", ")}` : ""}`));
    }
    if (state.table) parts.push(table(s, n, a));
    return parts;
  }

  // A picture with the rows of the chosen example in a frame.
  function outlined(s, n, a, canvas) {
    const rows = a.part ? null : span(s, n, state.example), across = rows && rows[0] === a.shape.length - 1;
    if (!rows || !(across || rows[0] === 0)) return canvas;
    const [from, to] = [rows[1], rows[2]].map((at) => `${100 * at / a.shape[rows[0]]}%`), wide = `calc(${to} - ${from})`;
    return html("div", {class: "outlined"}, canvas, html("div", {style: across ? `left: ${from}; width: ${wide}; top: 0; height: 100%` : `top: ${from}; height: max(${wide}, 3px); left: 0; width: 100%`}));
  }

  function table(s, n, a) {
    const shape = shapeHeld(a), columns = shape.length > 1 ? shape[shape.length - 1] : 1, body = html("table");
    const fields = editable(s, n, a);
    const own = span(s, n, state.example), inner = own ? sizeOf(a.shape.slice(own[0] + 1)) : 1;
    for (let r = 0; r * columns < a.data.length && r < ROWS; r++) {
      const line = html("tr", {}, html("th", {}, String(r)));
      for (let c = 0; c < columns && c < ROWS; c++) {
        const k = r * columns + c, at = own && Math.floor(k / inner) % a.shape[own[0]];
        const picked = own && at >= own[1] && at < own[2], text = word(a.data[k], 6);
        line.append(html("td", {class: picked ? "picked" : false}, fields ? field(s, n, k, text) : text));
      }
      body.append(line);
    }
    if (columns > ROWS || a.data.length > ROWS * columns) body.append(html("tr", {}, html("td", {}, `the first ${ROWS} of each side`)));
    const note = n.input && !fields ? a.part ? "Shown in part, and so not to be edited." : a.data.length > FIELDS ? `More than ${FIELDS} elements: not to be edited here.` : !s.body && examples.derived(s, n) ? "It follows from the examples in the batch." : "" : "";
    return html("div", {}, body, note ? html("div", {class: "note"}, note) : "");
  }

  const FIELDS = 600; // elements of a table with a field for each
  const ROWS = 200; // rows and columns of a table
  const editable = (s, n, a) => n.input && !a.part && a.data.length <= FIELDS && n.dtype !== "bool" && !s.body && data.play[s.index] && !examples.derived(s, n);

  // A field for element k of an argument; integers stay integers.
  function field(s, n, k, text) {
    const whole = /int/.test(n.dtype || "");
    return html("input", {type: "number", step: whole ? "1" : "any", value: text, "aria-label": n.shape.length ? `${n.name} [${k}]` : n.name, onchange: (e) => {
      const v = e.target.value === "" ? NaN : +e.target.value;
      if (Number.isNaN(v) || (whole && !Number.isInteger(v))) { e.target.value = text; say(whole ? "expected an integer" : "expected a number"); } else edit(s, n, k, v);
    }});
  }

  // Show an error at the foot of the page, until the next change.
  function say(text) {
    state.error = text;
    formula.textContent = text;
    formula.classList.toggle("error", Boolean(text));
  }

  function inspect(panel) {
    const s = stages[state.stage], n = state.selected;
    if (!n || n.stage !== s) {
      panel.replaceChildren(html("h2", {}, s.title), html("p", {}, s.note), ...changes(s), legend(s), ...storage(s), play(s));
      return;
    }
    const children = [html("h2", {}, n.input ? n.name : `${n.name} = ${n.call}`), typed(n.type)];
    const filled = numbers(s, n), a = row(s, n, state.example);
    if (!n.input && filled !== n.call) children.push(html("div", {}, html("code", {}, `${brief(a) || n.name} = ${filled}`)));
    children.push(html("p", {}, why(s, n)));
    if (n.line) children.push(html("h3", {class: "place"}, `${n.line[0]}:${n.line[1]}`), html("code", {}, n.line[2] || "(no source)"));
    if (n.scope) children.push(html("div", {class: "note"}, `scope ${n.scope}`));
    if (n.rules.length) children.push(html("div", {class: "note"}, `made by ${n.rules.join(", then ")}`));
    const value = valueOf(s, n);
    if (value) children.push(...picture(s, n, state.example !== null && a !== value ? `value (example ${state.example})` : "value", value, n.role === "gradient"));
    if (n.cotangent !== undefined) {
      const c = s.nodes[n.cotangent], v = valueOf(s, c);
      if (v) children.push(...picture(s, c, "gradient of the result with respect to it", v, true));
      children.push(html("div", {class: "note"}, "computed by ", link(c)));
    }
    if (n.of !== undefined) children.push(...backwards(s, n));
    if (value && value.data.length > 1) children.push(html("button", {onclick: () => { state.table = !state.table; refresh(); }}, state.table ? "hide table" : "table"));
    const uses = s.readers[n.index].map((i) => s.nodes[i]).filter((m) => !m.literal);
    children.push(html("h3", {}, "used by"), uses.length ? html("div", {}, ...uses.flatMap((m, k) => [k ? ", " : "", link(m)])) : html("div", {}, s.outputs.filter(([, i]) => i === n.index).map(([l]) => `result ${l}`).join(", ") || "nothing"));
    const others = s.body ? [] : listed.filter((t) => t !== s && t.byKey.has(n.key));
    if (others.length) {
      const lists = [html("ul"), html("ul")];
      for (const t of others) {
        const nodes = t.byKey.get(n.key), m = nodes.find((x) => alike(value, valueOf(t, x))) || nodes.find((x) => x.op === n.op) || nodes[nodes.length - 1], v = valueOf(t, m);
        lists[alike(value, v) ? 0 : 1].append(html("li", {}, link(m, `${t.title}: ${m.name}`), ` ${nodes.length > 1 ? `(${nodes.length} nodes) ` : ""}${brief(v)} `, typed(m.type)));
      }
      ["the same value in other stages", "from the same line of the program"].forEach((title, k) => { if (lists[k].children.length) children.push(html("h3", {}, title), lists[k]); });
    }
    if (n.held) {
      children.push(html("h3", {}, "holds"), ...n.held.map((h) => html("div", {}, h.name, " ", h.body === undefined ? "(did not run by itself)"
        : html("button", {onclick: () => enter(listed.length + h.body, s.index)}, "open"))));
    }
    children.push(play(s));
    panel.replaceChildren(...children);
  }

  // Whether two arrays are equal to rounding, or one is a row of the other, or its first rows.
  function alike(a, b) {
    if (!a || !b || a.part || b.part) return a === b;
    if (a.data.length > b.data.length) return alike(b, a);
    const x = String(a.shape), one = x === String(b.shape.slice(1)), some = String(a.shape.slice(1)) === String(b.shape.slice(1));
    if (x !== String(b.shape) && !one && !some) return false;
    const from = one && x !== String(b.shape) && state.example !== null ? Math.max(0, examples.batch.indexOf(state.example)) * a.data.length : 0;
    return a.data.every((v, k) => { const w = b.data[from + k]; return Object.is(v, w) || Math.abs(v - w) <= 1e-9 * Math.max(Math.abs(v), Math.abs(w)); });
  }

  function why(s, n) {
    if (n.role === "gradient") return "A value of the derivative's computation.";
    if (n.role === "batched" && n.spread) return "Spread along the batch axis as a view: it depends on no example.";
    if (n.role === "batched") return "It depends on an example, so it has the batch axis.";
    if (n.role === "shared") {
      const inputs = [...ancestors(s, n.index)].map((i) => s.nodes[i]).filter((m) => m.input).map((m) => m.name);
      return `Shared by all examples: it depends on ${inputs.length ? inputs.join(", ") : "constants"} alone, and runs once.`;
    }
    if (n.role === "combined") return "It combines all examples, and runs once for the batch.";
    return n.input ? "An argument." : "A value of one example.";
  }

  function ancestors(s, start) {
    const seen = new Set([start]), stack = [start];
    while (stack.length) for (const i of s.nodes[stack.pop()].inputs) if (!seen.has(i)) { seen.add(i); stack.push(i); }
    return seen;
  }

  // The step backwards that a node belongs to: what arrives, the local derivative, and what is passed on.
  function backwards(s, n) {
    const forward = s.nodes[n.of], arrives = forward.cotangent === undefined ? null : s.nodes[forward.cotangent];
    const made = s.derived.get(n.of) || [];
    const list = html("ul");
    for (const m of made) {
      const to = (s.arrivals.get(m.index) || []).map((f) => f.name);
      list.append(html("li", {}, link(m), ` = ${m.call} `, html("code", {}, brief(row(s, m, state.example))), to.length ? ` → arrives at ${to.join(", ")}` : m.op === "add" ? " (sum of the contributions of two uses)" : ""));
    }
    return [html("h3", {}, "backwards through"), html("div", {}, link(forward), ` = ${forward.call}`),
      arrives ? html("div", {}, "arrives: ", link(arrives), " ", html("code", {}, brief(row(s, arrives, state.example)))) : "", list];
  }

  // The operations that a stage has more and fewer than the one before it.
  function changes(s) {
    if (s.before === undefined) return [];
    const t = stages[s.before], parts = [];
    for (const [title, from, to] of [[`new since ${t.title}`, s, t], [`gone since ${t.title}`, t, s]]) {
      const list = from.nodes.filter((n) => !n.literal && !n.input && !to.byKey.has(n.key));
      if (list.length) parts.push(html("h3", {}, `${title}: ${list.length}`), html("div", {class: "changes"}, ...list.slice(0, 40).flatMap((n, k) => [k ? ", " : "", link(n, `${n.name} ${n.op}`)]), list.length > 40 ? " …" : ""));
    }
    return parts;
  }

  function legend(s) {
    const roles = [...new Set(s.nodes.filter((n) => !n.literal).map((n) => n.role))];
    const words = {"per-example": "one example", shared: "shared by all examples", batched: "one row per example", combined: "combines all examples", gradient: "derivative"};
    const list = html("ul");
    roles.forEach((r) => list.append(html("li", {}, html("span", {style: `background: var(--${r}); padding: 0 6px; border-radius: 4px`}, words[r] || r))));
    return html("div", {}, html("h3", {}, "colours"), list);
  }

  // -- ragged batches ---------------------------------------------------------------------------------------

  const hue = (b) => ["#56b4e9", "#e69f00", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999"][b % 8];
  const shortened = (items, most = 40) => (items.length > most ? [...items.slice(0, most), "…"] : items);
  const bytes = (n) => (n < 1e4 ? `${n} bytes` : n < 1e7 ? `${(n / 1e3).toFixed(1)} kB` : `${(n / 1e6).toFixed(1)} MB`);

  // A matrix of cells, coloured by example, as a canvas.
  function cells(height, width, filled) {
    const canvas = html("canvas", {class: "heat", width: Math.max(1, width), height: Math.max(1, height)}), context = canvas.getContext("2d");
    context.fillStyle = "#88888822";
    context.fillRect(0, 0, width, height);
    for (const [r, c, colour] of filled) { context.fillStyle = colour; context.fillRect(c, r, 1, 1); }
    const scale = Math.max(1, Math.min(10, Math.floor(220 / Math.max(width, height, 1))));
    canvas.style.width = `${width * scale}px`;
    canvas.style.height = `${height * scale}px`;
    return canvas;
  }

  // The edges between two index fields in three forms: a padded stack of matrices, one block-diagonal matrix, a list.
  function storage(s) {
    if (!examples.ragged || s.kind !== "batch") return [];
    const pairs = examples.record.indices, a = pairs[0], b = pairs.find((p) => p !== a && a && p.axis === a.axis);
    const list = html("ul");
    for (const name of Object.keys(examples.lengths).filter(Boolean)) { const lengths = examples.lengthsOf(name); list.append(html("li", {}, `${name}: ${shortened(lengths).join(" + ")} = ${lengths.reduce((x, y) => x + y, 0)}`)); }
    const parts = [html("h3", {}, "packed axes"), list];
    if (!b) return parts;
    const [from, to] = [a, b].map((p) => valueOf(s, s.nodes[s.inputs[p.input]])), rows = examples.lengthsOf(a.target), columns = examples.lengthsOf(b.target);
    if (!from || !to || from.part || to.part) return parts;
    const edges = examples.lengthsOf(a.axis), [rowOf, columnOf] = [sums(rows), sums(columns)], owner = edges.flatMap((n, e) => Array(n).fill(e));
    const high = Math.max(...rows), wide = Math.max(...columns), total = [rowOf[rows.length], columnOf[columns.length]];
    const padded = owner.map((e, k) => [e * (high + 1) + from.data[k] - rowOf[e], to.data[k] - columnOf[e], hue(examples.batch[e])]);
    const block = owner.map((e, k) => [from.data[k], to.data[k], hue(examples.batch[e])]);
    const ends = owner.flatMap((e, k) => [[0, k, hue(examples.batch[e])], [1, k, hue(examples.batch[e])]]);
    const forms = [[`padded stack: ${rows.length} × ${high} × ${wide} float32`, 4 * rows.length * high * wide, cells(rows.length * (high + 1) - 1, wide, padded)],
      [`block-diagonal matrix: ${total[0]} × ${total[1]} float32, dense`, 4 * total[0] * total[1], cells(total[0], total[1], block)],
      [`edge list: 2 × ${owner.length} int64`, 16 * owner.length, cells(2, owner.length, ends)]];
    parts.push(html("h3", {}, `the edges ${a.name} → ${b.name}, three ways`));
    for (const [title, size, canvas] of forms) parts.push(html("div", {}, `${title}: `, html("b", {}, bytes(size))), canvas);
    return parts;
  }

  // -- play ---------------------------------------------------------------------------------------------

  function play(s) {
    if (s.body) return "";
    const box = html("div", {}, html("h3", {}, "play"));
    if (!data.play[s.index]) {
      box.append(html("div", {class: "note"}, `Values cannot be edited here: ${unable(s, kernels)}.`));
      return box;
    }
    box.append(html("div", {class: "note"}, "Select an input, open its table and edit an element: all values follow."));
    const pairs = s.nodes.filter((n) => n.input && n.cotangent !== undefined);
    if (pairs.length && !lack(s)) {
      const rate = html("input", {type: "number", value: "0.1", step: "any", style: "width: 6em", "aria-label": "learning rate"});
      box.append(html("button", {onclick: () => descend(s, pairs, +rate.value)}, "gradient step"), " rate ", rate);
    }
    if (examples.edited) box.append(" ", html("button", {onclick: () => { examples.restore(); draw(); }}, "reset values"));
    return box;
  }

  const current = (s) => examples.inputs(s, state.example).map((a) => ({shape: a.shape, data: Float64Array.from(a.data)}));

  // Take new inputs of a stage; those of the other stages follow.
  function follow(s, inputs) {
    try {
      examples.change(s, inputs, state.example);
      say("");
    } catch (error) {
      say(error.message);
    }
    draw();
  }

  function edit(s, n, k, v) {
    const inputs = current(s);
    inputs[n.index].data[k] = v;
    follow(s, inputs);
  }

  function descend(s, pairs, rate) {
    const inputs = current(s);
    for (const n of pairs) {
      const slope = valueOf(s, s.nodes[n.cotangent]);
      inputs[n.index].data = inputs[n.index].data.map((v, k) => v - rate * slope.data[k]);
    }
    follow(s, inputs);
  }

  // -- steps ----------------------------------------------------------------------------------------------

  const order = () => layout(stages[state.stage]).order.filter((n) => !n.input);

  function move(to) {
    const view = layout(stages[state.stage]), count = view.order.length;
    state.step = to === null ? null : Math.min(count - 1, Math.max(firstStep(view), to));
    state.selected = state.step === null ? null : view.order[state.step];
    refresh();
  }

  const firstStep = (view) => Math.max(0, view.order.findIndex((n) => !n.input));

  function select(n, follow = false) {
    const before = `${state.stage} ${state.second}`;
    if (follow && n.stage.index !== state.stage && n.stage.index !== state.second) { state.stage = n.stage.index; state.step = null; }
    if (n.stage.index === state.second && n.stage.index !== state.stage) { const k = state.stage; state.stage = state.second; state.second = k; state.step = null; }
    state.selected = n;
    if (state.step !== null) { const k = layout(n.stage).order.indexOf(n); if (k >= 0) state.step = k; }
    if (before === `${state.stage} ${state.second}`) refresh(); else draw();
  }

  // Open a graph that a node holds, or return from it.
  function enter(stage, from) {
    state.stage = stage; state.from = from; state.step = null; state.selected = null; state.turn = 0;
    draw();
  }

  // Why the batch cannot be changed.
  const unchosen = () => `The batch cannot be changed: ${unable(listed.find((s) => s.kind === "batch"), kernels)}.`;

  // -- the frame --------------------------------------------------------------------------------------------

  const tabs = html("span", {class: "stages", role: "tablist", "aria-label": "stages"});
  const second = html("select", {"aria-label": "second stage", onchange: (e) => { state.second = +e.target.value; draw(); }});
  const example = html("select", {"aria-label": "example", onchange: (e) => pick(e.target.value === "" ? null : +e.target.value)});
  const batchSize = html("input", {type: "range", min: 1, max: Math.max(1, examples.count), "aria-label": "batch size", oninput: (e) => choose(range(+e.target.value))});
  const toggles = html("div", {class: "toggles", role: "group", "aria-label": "examples in the batch"});
  // A thousand buttons are made when they are first asked for.
  const fill = () => { if (!toggles.children.length) toggles.append(...range(examples.count).map((b) => html("button", {"aria-pressed": String(examples.batch.includes(b)), onclick: () => toggle(b)}, String(b)))); };
  const batchWord = html("summary", {title: "which examples form the batch: all stages follow", onclick: fill});
  const batchBox = html("details", {class: "batchbox", hidden: examples.count < 2}, batchWord,
    html("div", {}, examples.choosable ? html("label", {}, "size ", batchSize) : null, examples.choosable ? toggles : examples.count > 1 ? html("div", {class: "note"}, unchosen()) : null,
      examples.record.total > examples.count ? html("div", {class: "note"}, `The page holds the first ${examples.count} of ${examples.record.total} examples.`) : null));
  const trivial = html("input", {type: "checkbox", id: "trivial", onchange: (e) => { state.trivial = e.target.checked; state.step = null; draw(); }});
  const find = html("input", {type: "search", placeholder: "search ( / )", "aria-label": "search", oninput: (e) => { state.find = e.target.value.toLowerCase(); refresh(); }});
  const panes = html("div", {class: "panes"}), panel = html("aside", {"aria-live": "polite"});
  const slider = html("input", {type: "range", class: "step", min: 0, "aria-label": "step", oninput: (e) => move(+e.target.value)});
  const turns = html("label", {class: "turns"});
  const formula = html("span", {class: "formula", "aria-live": "polite"});
  const graphs = () => panes.querySelectorAll("svg[role=group]");
  root.append(html("div", {class: "app"},
    html("header", {}, html("h1", {}, data.title), tabs,
      html("div", {class: "tools"}, html("label", {title: "a second stage beside this one"}, "beside ", second), html("label", {title: "the example whose row is marked and whose numbers stand in formulas"}, "example ", example), batchBox, turns,
        html("label", {for: "trivial", title: "show multiplications by 1 and additions of 0"}, trivial, " × 1 and + 0"), find,
        html("button", {onclick: () => graphs().forEach((p) => p.zoom(1.25)), "aria-label": "zoom in"}, "+"),
        html("button", {onclick: () => graphs().forEach((p) => p.zoom(0.8)), "aria-label": "zoom out"}, "−"),
        html("button", {onclick: () => graphs().forEach((p) => p.fit())}, "fit"),
        html("button", {title: "fold opened groups of operations again", onclick: () => { state.open.clear(); draw(); }}, "fold"),
        html("button", {onclick: () => save("svg")}, "SVG"), html("button", {onclick: () => save("png")}, "PNG"), html("button", {title: "one picture per step, in a ZIP archive", onclick: () => save("frames")}, "frames"))),
    panes, panel,
    html("footer", {}, html("button", {onclick: () => back(), "aria-label": "step back"}, "←"), slider,
      html("button", {onclick: () => forth(), "aria-label": "step forward"}, "→"),
      html("button", {onclick: () => move(null)}, "all"), formula)));

  const back = () => move(state.step === null ? layout(stages[state.stage]).order.length - 1 : state.step - 1);
  const forth = () => move(state.step === null ? 0 : state.step + 1);

  let drawnGraphs = [];

  // Show the state: `draw` makes the graphs anew, `refresh` only marks them.
  function draw() {
    const chosen = [state.stage, ...(state.second >= 0 && state.second !== state.stage ? [state.second] : [])];
    const boxes = chosen.map(() => html("div", {class: "pane"}));
    panes.replaceChildren(...boxes, ...(state.program ? [html("div", {class: "pane"}, html("div", {class: "title"}, "program"), html("pre", {tabindex: 0}, data.program))] : []));
    frame();
    drawnGraphs = chosen.map((k, j) => drawGraph(boxes[j], stages[k]));
    refresh();
  }

  // The tabs and choices of the frame.
  function frame() {
    const s = stages[state.stage], tab = (text, chosen, onclick, more = {}) => html("button", {role: "tab", "aria-selected": String(chosen), onclick, ...more}, text);
    tabs.replaceChildren(
      ...(s.body ? [html("button", {onclick: () => enter(state.from, null)}, "↑ back"), tab(s.title, true)] : []),
      ...listed.map((t, k) => tab(t.title, k === state.stage, () => visit(k))),
      tab("program", Boolean(state.program), () => { state.program = !state.program; draw(); }, {title: "show or hide the program"}));
    second.replaceChildren(html("option", {value: -1}, "nothing"), ...listed.map((t, k) => html("option", {value: k, selected: k === state.second}, t.title)));
    turns.hidden = !s.body;
    if (s.body) turns.replaceChildren("run ", html("input", {type: "range", min: 0, max: s.turns.length - 1, value: state.turn, "aria-label": "run", oninput: (e) => { state.turn = +e.target.value; draw(); turns.querySelector("input").focus(); }}), ` ${state.turn}`);
    frameExamples(s);
  }

  // The lists of examples: those of the batch, and the others that the page holds, which a choice adds to it.
  function frameExamples(s) {
    const size = examples.count || Math.max(s.size, state.second >= 0 ? stages[state.second].size : 0);
    if (state.example !== null && state.example >= size) state.example = null;
    const option = (b) => html("option", {value: b}, String(b)), batch = examples.count ? examples.batch : range(size);
    if (example.batch !== batch && (examples.count || !example.batch || example.batch.length !== size)) {
      const within = new Set(batch), others = examples.choosable ? range(size).filter((b) => !within.has(b)) : [];
      example.replaceChildren(html("option", {value: ""}, "all"), ...batch.map(option), ...(others.length ? [html("optgroup", {label: "not in the batch: joins it"}, ...others.map(option))] : []));
      example.batch = batch;
      batchSize.value = batch.length;
      batchWord.textContent = `batch: ${batch.length} of ${examples.record.total}`;
      for (const button of toggles.children) button.setAttribute("aria-pressed", String(within.has(+button.textContent)));
    }
    example.value = state.example === null ? "" : String(state.example);
    example.disabled = !size;
  }

  // Make a batch of other examples.
  function choose(batch) {
    if (!batch.length) { say("a batch has at least one example"); return; }
    say("");
    examples.choose(batch);
    if (state.example !== null && !examples.batch.includes(state.example)) state.example = null;
    draw();
  }

  function toggle(b) { choose(examples.batch.includes(b) ? examples.batch.filter((other) => other !== b) : [...examples.batch, b]); }

  function pick(b) {
    state.example = b;
    if (b !== null && examples.choosable && !examples.batch.includes(b)) choose([...examples.batch, b]);
    else if (examples.count && stages.some((s) => s.kind === "one")) draw(); else refresh();
  }

  function visit(k) {
    state.stage = k;
    state.step = null;
    if (state.selected) { const same = stages[k].byKey.get(state.selected.key); state.selected = same ? same[same.length - 1] : null; }
    draw();
  }

  function refresh() {
    const s = stages[state.stage];
    drawnGraphs.forEach(mark);
    inspect(panel);
    const view = layout(s), n = state.step === null ? null : view.order[state.step];
    slider.max = view.order.length - 1;
    slider.min = firstStep(view);
    slider.value = state.step === null ? view.order.length - 1 : state.step;
    formula.classList.toggle("error", Boolean(state.error));
    const phase = n && n.role === "gradient" ? (n.rules.includes("jvp") ? "tangent" : "backward") : "forward";
    formula.textContent = state.error ? state.error : n ? `${phase} ${state.step - firstStep(view) + 1} of ${order().length}: ${n.name} = ${numbers(s, n)} = ${brief(row(s, n, state.example)) || n.type}` : `${order().length} steps: ← →`;
  }

  document.addEventListener("keydown", (e) => {
    if (e.target.closest && e.target.closest("input, select, textarea")) return;
    const actions = {ArrowRight: forth, ArrowLeft: back, Home: () => move(0), End: () => move(1e9), Escape: () => { state.selected = null; move(null); },
      "+": () => graphs().forEach((p) => p.zoom(1.25)), "-": () => graphs().forEach((p) => p.zoom(0.8)), 0: () => graphs().forEach((p) => p.fit()), "/": () => find.focus()};
    if (actions[e.key] && !e.ctrlKey && !e.metaKey) { e.preventDefault(); actions[e.key](); }
  });
  window.addEventListener("resize", draw);

  // -- export -------------------------------------------------------------------------------------------------

  const STYLED = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-family", "font-size", "font-weight"];

  function drawing() {
    const picture = panes.querySelector("svg[role=group]"), view = layout(stages[state.stage]), copy = picture.cloneNode(true);
    const from = picture.querySelectorAll("*"), to = copy.querySelectorAll("*");
    from.forEach((e, k) => { const style = getComputedStyle(e); STYLED.forEach((p) => to[k].style.setProperty(p, style.getPropertyValue(p))); });
    copy.firstChild.setAttribute("transform", "");
    copy.setAttribute("viewBox", `0 0 ${view.width} ${view.height}`);
    copy.setAttribute("width", view.width);
    copy.setAttribute("height", view.height);
    copy.setAttribute("xmlns", SVG);
    return {text: new XMLSerializer().serializeToString(copy), width: view.width, height: view.height};
  }

  function download(name, url) { html("a", {href: url, download: name}).click(); }

  const title = () => `${data.title}-${stages[state.stage].title}`.replace(/[^\w-]+/g, "-");
  const address = (text) => `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;

  // The present view as a canvas.
  async function painted() {
    const {text, width: w, height: h} = drawing(), image = new Image();
    image.src = address(text);
    await image.decode();
    const canvas = document.createElement("canvas"), k = Math.min(2, 4000 / Math.max(w, h));
    canvas.width = w * k; canvas.height = h * k;
    const context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(document.body).backgroundColor;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    return canvas;
  }

  async function save(kind) {
    if (kind === "svg") download(`${title()}.svg`, address(drawing().text));
    else if (kind === "png") download(`${title()}.png`, (await painted()).toDataURL("image/png"));
    else download(`${title()}.zip`, URL.createObjectURL(new Blob([zip(await frames())], {type: "application/zip"})));
  }

  // One PNG per step, as [name, bytes].
  async function frames() {
    const before = state.step, found = [], count = order().length, first = firstStep(layout(stages[state.stage]));
    for (let k = 0; k < count; k++) {
      move(first + k);
      const blob = await new Promise((resolve) => painted().then((canvas) => canvas.toBlob(resolve, "image/png")));
      found.push([`${title()}-${String(k + 1).padStart(4, "0")}.png`, new Uint8Array(await blob.arrayBuffer())]);
    }
    move(before);
    return found;
  }

  window.minigradExplorer = {state, stages, examples, layout, valueOf, move, select, edit, draw, refresh, drawing};
  draw();
  performance.mark("drawn");

  // Prepare the other stages while nobody waits.
  const idle = window.requestIdleCallback || ((work) => setTimeout(work, 50));
  const prepare = (k) => { if (k < listed.length) idle(() => { void listed[k].byKey; layout(listed[k]); prepare(k + 1); }); };
  prepare(0);
})(document.getElementById("explorer"), JSON.parse(document.getElementById("data").textContent), KERNELS);
