// A ZIP archive of stored files (APPNOTE.TXT, PKWARE).
"use strict";

function zip(list) {
  const table = Array.from({length: 256}, (_, n) => { for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1; return n >>> 0; });
  const crc = (bytes) => { let c = ~0; for (const b of bytes) c = table[(c ^ b) & 255] ^ (c >>> 8); return ~c >>> 0; };
  const packed = (...fields) => { const view = new DataView(new ArrayBuffer(fields.reduce((n, [size]) => n + size, 0))); let at = 0; for (const [size, v] of fields) { if (size === 2) view.setUint16(at, v, true); else view.setUint32(at, v, true); at += size; } return new Uint8Array(view.buffer); };
  const parts = [], entries = [];
  let at = 0;
  for (const [name, bytes] of list) {
    const label = new TextEncoder().encode(name), sum = crc(bytes);
    const shared = [[2, 20], [2, 0x800], [2, 0], [2, 0], [2, 0x21], [4, sum], [4, bytes.length], [4, bytes.length], [2, label.length], [2, 0]];
    entries.push(packed([4, 0x02014b50], [2, 20], ...shared, [2, 0], [2, 0], [2, 0], [4, 0], [4, at]), label);
    const head = packed([4, 0x04034b50], ...shared);
    parts.push(head, label, bytes);
    at += head.length + label.length + bytes.length;
  }
  const size = entries.reduce((n, e) => n + e.length, 0);
  const all = [...parts, ...entries, packed([4, 0x06054b50], [2, 0], [2, 0], [2, list.length], [2, list.length], [4, size], [4, at], [2, 0])];
  const out = new Uint8Array(all.reduce((n, e) => n + e.length, 0));
  let to = 0;
  for (const e of all) { out.set(e, to); to += e.length; }
  return out;
}
