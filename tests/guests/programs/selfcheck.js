// SPDX-License-Identifier: Apache-2.0
// node selfcheck.js: one line per part, digests as any JavaScript engine must print them. Functions are hot enough to be
// compiled, change the types they see (deoptimisation), and run again; the garbage collector moves what they made.
'use strict';
const crypto = require('crypto');
const zlib = require('zlib');

let digest = 0;
function add(value) {
    digest = Math.imul(digest ^ (value | 0), 0x01000193);
    digest ^= digest >>> 15;
}
function report(part) {
    console.log(part.padEnd(14) + (digest >>> 0).toString(16).padStart(8, '0'));
    digest = 0;
}
let seed = 12345;
function next() {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return seed;
}

function mixed(a, b) {
    return a + b;
}
for (let i = 0; i < 300000; i++) add(mixed(i, next() & 1023));
for (let i = 0; i < 50000; i++) add(Math.floor(mixed(i * 0.5, next() * 0.25)));
for (let i = 0; i < 2000; i++) add(mixed('x' + i, next() & 7).length);
for (let i = 0; i < 50000; i++) add(mixed(i | 0, -i));
report('deopt');

const view = new DataView(new ArrayBuffer(8));
function addDouble(value) {
    view.setFloat64(0, value);
    add(view.getInt32(0));
    add(view.getInt32(4));
}
for (let i = 0; i < 100000; i++) {
    const a = (next() - 0x3fffffff) / 1024, b = (next() + 1) / 77777;
    addDouble(a * b);
    addDouble(a / b);
    addDouble(Math.sqrt(b));
    addDouble(a % b);
    add(a * 65536);
    add(Math.round(a) + Math.trunc(b));
}
report('double');

let big = 1n;
for (let i = 1n; i < 400n; i++) big = big * (i * 0x123456789n + 7n) ^ (big >> 13n);
for (const char of (big % (10n ** 300n)).toString()) add(char.charCodeAt(0));
report('bigint');

const typed = new Float32Array(4096), ints = new Uint8Array(4096);
for (let round = 0; round < 50; round++)
    for (let i = 0; i < 4096; i++) {
        typed[i] = typed[(i * 7) & 4095] * 0.5 + (next() & 255);
        ints[i] = ints[(i + 1) & 4095] + typed[i];
        add(ints[i]);
    }
report('typed-array');

class Node {
    constructor(left, right) { this.left = left; this.right = right; }
    count() { return 1 + (this.left ? this.left.count() : 0) + (this.right ? this.right.count() : 0); }
}
function tree(depth) { return depth ? new Node(tree(depth - 1), tree(depth - 1)) : new Node(null, null); }
const kept = tree(14);
for (let i = 0; i < 30; i++) add(tree(12).count());
add(kept.count());
report('gc');

const words = [];
for (let i = 0; i < 20000; i++) words.push('w' + (next() % 5000).toString(36));
const counts = new Map();
for (const word of words) counts.set(word, (counts.get(word) || 0) + 1);
for (const [word, count] of [...counts].sort((x, y) => (x[0] < y[0] ? -1 : 1))) add(word.length * 1000 + count);
for (const match of words.join(' ').matchAll(/w([a-z]+)(\d)\b/g)) add(match[1].length * 10 + Number(match[2]));
report('strings');

function throwing(i) {
    if (i % 3 === 0) throw new RangeError(String(i));
    return [i, i * 2].map((x) => x + 1).reduce((x, y) => x ^ y, 0);
}
for (let i = 0; i < 30000; i++) {
    try {
        add(throwing(i));
    } catch (error) {
        add(error.message.length);
    }
}
let depth = 0;
(function overflow() { depth++; overflow2(); function overflow2() { if (depth < 3000) overflow(); } })();
add(depth);
try {
    (function forever() { forever(); })();
} catch (error) {
    add(error instanceof RangeError ? 1 : 2);
}
report('exceptions');

function* numbers(limit) { for (let i = 0; i < limit; i++) yield i * i; }
for (const value of numbers(50000)) add(value);
report('generators');

// (func (param i32) (result i32) loop: sum = sum * 31 + n; n -= 1; until n == 0)
const body = [1, 1, 127, 3, 64, 32, 1, 65, 31, 108, 32, 0, 106, 33, 1, 32, 0, 65, 1, 107, 34, 0, 13, 0, 11, 32, 1, 11];
const wasm = new WebAssembly.Module(new Uint8Array([
    0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 127, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0,
    10, body.length + 2, 1, body.length, ...body]));
const f = new WebAssembly.Instance(wasm).exports.f;
for (let i = 1; i < 2000; i++) add(f(i));
report('wasm');

const block = Buffer.alloc(1 << 20, 'bulkhead');
for (let i = 0; i < block.length; i += 977) block[i] = next();
console.log('sha256'.padEnd(14) + crypto.createHash('sha256').update(block).digest('hex'));
add(zlib.gunzipSync(zlib.gzipSync(block)).equals(block) ? 1 : 2);
report('zlib');

(async () => {
    let sum = 0;
    for (let i = 0; i < 20000; i++) sum += await i;
    add(sum);
    report('async');
})();
