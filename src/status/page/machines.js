// The machines, and what each has asked for. Each has one element, in its trouble or among the rest.

import { ago, boots, bytes, cause, colour, isTrouble, machine, make, plural, reason, set, time, when } from "./words.js";

/// How many transfers of a machine the page keeps, and how many machines that fetch nothing now: as the server does.
const EACH = 64;
const MACHINES = 128;

const machines = new Map(); // by address
let now = 0;

function known(client) {
  const address = machine(client);
  let it = machines.get(address);
  if (!it) {
    machines.set(address, (it = { address, records: [], running: [], expanded: new Set(), card: "", touched: true }));
  }
  return it;
}

export function remember(record) {
  record.begin = Date.parse(record.time);
  record.end = record.begin + record.seconds * 1000;
  const it = known(record.client);
  it.records.push(record);
  it.touched = true;
  if (it.records.length > EACH) it.records.shift();
}

/// Adds the running transfers to the histories of their machines.
export function expect(transfers, at) {
  now = at;
  for (const it of machines.values()) {
    it.touched = it.touched || it.running.length > 0;
    it.running = [];
  }
  for (const transfer of transfers) {
    const it = known(transfer.client);
    it.running.push({
      ...transfer, outcome: "running", begin: now - transfer.seconds * 1000, end: now, code: null, reason: null,
      filename: transfer.path, retransmits: 0, bytes_per_second: transfer.bytes / Math.max(0.001, transfer.seconds),
    });
    it.touched = true;
  }
}

/// All machines with their state and their trouble, in the order of their last packet, the latest first.
export function judged(macOf) {
  for (const it of machines.values()) {
    const all = [...it.records, ...it.running];
    if (all.length === 0) {
      forget(it);
      continue;
    }
    it.boots = boots(all);
    it.busy = it.running[0] || null;
    // Records come in the order of their ends. A request for a size alone does not count as an end.
    const ended = it.records.filter((record) => it.boots[0].includes(record));
    it.last = ended.findLast((record) => colour(record) !== "") || null;
    it.trouble = !it.busy && it.last && isTrouble(it.last) ? it.last : null;
    it.heard = it.busy ? now : Math.max(...ended.map((record) => record.end));
    it.card = macOf(it.address);
  }
  const sorted = [...machines.values()].sort((a, b) => b.heard - a.heard);
  // A crowd that fetches must not push out the machines that failed.
  sorted.filter((it) => !it.busy).slice(MACHINES).forEach(forget);
  return sorted.filter((it) => machines.has(it.address));
}

function forget(it) {
  if (it.element) it.element.remove();
  machines.delete(it.address);
}

/// Forgets all machines, because the server has been started again.
export function forgetMachines() {
  machines.forEach(forget);
}

/// Whether the machine's address, its MAC address or one of its paths contains this text, which is in lower case.
export function matches(it, text) {
  const names = [...it.records, ...it.running].map((record) => record.path);
  return [it.address, it.card, it.card.replace(/:/g, "-"), ...names].some((word) => word.toLowerCase().includes(text));
}

function verdict(it) {
  if (it.busy) return ["busy", (it.busy.direction === "read" ? "fetches " : "sends ") + it.busy.path];
  if (!it.last) return ["", "has asked for sizes only"];
  if (it.trouble) return [colour(it.last), it.last.path + ": " + cause(it.last)];
  return ["good", (it.last.direction === "read" ? "has fetched " : "has sent ") + it.last.path];
}

/// The machine's element, up to date.
export function element(it) {
  if (!it.element) {
    it.element = make("details", "");
    it.element.dataset.machine = it.address;
    const summary = make("summary");
    it.name = make("span", "name", it.address);
    it.cardText = make("small");
    it.name.append(it.cardText);
    [it.verdict, it.sum] = [make("span", "verdict"), make("span", "sum")];
    summary.append(it.name, it.verdict, it.sum);
    it.body = make("div");
    it.element.append(summary, it.body);
    it.element.addEventListener("toggle", () => fill(it));
  }
  const [kind, words] = verdict(it);
  it.element.className = kind;
  set(it.cardText, it.card);
  set(it.verdict, words);
  const got = it.boots[0].reduce((sum, record) => sum + record.bytes, 0);
  set(it.sum, (got ? bytes(got) + " · " : "") + (it.busy ? "now" : ago(now - it.heard)));
  it.sum.title = when(it.heard, 0);
  fill(it);
  return it.element;
}

/// Draws the machine's transfers, if its element is open and they have changed.
function fill(it) {
  if (!it.element.open || !it.touched) return;
  it.touched = false;
  it.body.replaceChildren(...it.boots.map((boot) => {
    const part = make("div", "boot");
    const begin = boot[0].begin;
    const span = Math.max(1, ...boot.map((record) => record.end - begin));
    const list = make("ol");
    list.append(...collapse(boot).map((record) => line(it, record, begin, span)));
    const words = plural(boot.length, "transfer") + " in " + time(span / 1000);
    part.append(make("h3", "", when(begin, now) + " · " + words), list);
    return part;
  }));
}

/// A client that repeats a request takes one line: the last record, with the beginning of the first.
function collapse(boot) {
  const lines = [];
  for (const record of boot) {
    const before = lines[lines.length - 1];
    const same = before && ["path", "outcome", "code", "reason"].every((key) => before[key] === record[key]);
    if (same && record.bytes === 0 && before.bytes === 0) {
      lines[lines.length - 1] = { ...record, begin: before.begin, times: (before.times || 1) + 1 };
    } else {
      lines.push(record);
    }
  }
  return lines;
}

const pairs = (options) => Object.entries(options || {}).map((pair) => pair.join("=")).join(" ");

function line(it, record, begin, span) {
  const item = make("li");
  const what = make("details", "what");
  const head = make("summary", "", "");
  const facts = [];
  if (record.times) facts.push(record.times + " times");
  if (record.bytes > 0) facts.push(bytes(record.bytes), time(record.seconds), bytes(record.bytes_per_second) + "/s");
  if (record.retransmits > 0) facts.push(record.retransmits + " sent again");
  if (record.protocol === "http") facts.push(["HTTP", record.status].filter(Boolean).join(" "));
  head.append(make("span", "path", record.path));
  if (facts.length) head.append(make("small", "", facts.join(" · ")));
  if (record.hint) head.append(make("small", "hint", record.hint));
  const rest = make("dl");
  for (const [name, text] of [
    ["why", reason(record)], ["asked for", record.filename], ["from", record.origin], ["to", record.target],
    ["at", when(record.begin, 0)],
    ["client", record.client], ["options asked", pairs(record.asked)], ["options granted", pairs(record.granted)],
  ]) {
    if (text) rest.append(make("dt", "", name), make("dd", "", text));
  }
  what.append(head, rest);
  what.open = it.expanded.has(record.id);
  what.addEventListener("toggle", () => (what.open ? it.expanded.add(record.id) : it.expanded.delete(record.id)));
  const end = make("div", "end");
  const chip = make("span", ("chip " + colour(record)).trim(), cause(record));
  end.append(chip);
  item.append(make("div", "at", "+" + ((record.begin - begin) / 1000).toFixed(2) + " s"), what, lane(record, begin, span), end);
  if (record.outcome === "running" && record.size > 0) set(chip, Math.floor((100 * record.bytes) / record.size) + " %");
  return item;
}

/// A bar: the transfer's time within its boot, or the progress of a running transfer.
function lane(record, begin, span) {
  const lane = make("div", "lane");
  const piece = make("i", colour(record));
  if (record.outcome === "running") {
    piece.style.width = (record.size > 0 ? Math.min(100, (100 * record.bytes) / record.size) : 0) + "%";
  } else {
    piece.style.left = Math.min(99, ((record.begin - begin) / span) * 100) + "%";
    piece.style.width = Math.max(0.5, ((record.end - record.begin) / span) * 100) + "%";
  }
  lane.append(piece);
  return lane;
}

/// Puts these elements there in this order. Nothing moves while somebody reads or clicks there.
export function place(parent, elements) {
  const wanted = new Set(elements);
  [...parent.children].filter((child) => !wanted.has(child)).forEach((child) => child.remove());
  const held = parent.matches(":focus-within") || (parent.matches(":hover") && parent.querySelector("details[open]"));
  elements.forEach((element, i) => {
    if (held && element.parentNode === parent) return;
    if (parent.children[i] !== element) parent.insertBefore(element, parent.children[i] || null);
  });
}
