// The live page. Names come from whoever sent a request, so all text is set as text, and none of it as markup.
"use strict";

const INTERVAL = 1000;
/// Points of a plot: two minutes.
const POINTS = 120;
/// A machine that was silent for so long begins a new boot.
const PAUSE = 120e3;
const EACH = 64;

const SVG = "http://www.w3.org/2000/svg";
const WORDS = {
  complete: "complete",
  probably_complete: "probably complete",
  probe: "probe",
  aborted: "aborted by client",
  timed_out: "timed out",
  refused: "refused",
  upstream_failed: "upstream failed",
  stopped: "server stopped",
  running: "running",
};

const by = (id) => document.getElementById(id);
const state = {
  started: 0, next: 0, now: 0,
  machines: new Map(), // address -> {records, element}
  rows: new Map(), // id -> running transfer on the page
  total: [], last: null, lost: 0,
};

/// Makes an element with a class and text.
function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) {
    n /= 1024;
    unit++;
  }
  return (unit === 0 || n >= 99.95 ? Math.round(n) : n.toFixed(1)) + " " + units[unit];
}

function time(seconds) {
  if (seconds < 0.0095) return "<10 ms";
  if (seconds < 0.995) return Math.round(seconds * 1000) + " ms";
  if (seconds < 99.5) return seconds.toFixed(1) + " s";
  if (seconds < 5940) return Math.round(seconds / 60) + " min";
  return Math.round(seconds / 3600) + " h";
}

function ago(ms) {
  if (ms < 2000) return "now";
  return (ms < 60e3 ? Math.round(ms / 1000) + " s" : time(ms / 1000)) + " ago";
}

/// The address without its port: 10.0.0.7:2070, [fe80::1]:2070.
function machine(client) {
  const address = client.slice(0, client.lastIndexOf(":")).replace(/^\[|\]$/g, "");
  return address.replace(/^::ffff:(?=\d+\.)/, "");
}

/// good, warn, bad, or nothing that matters.
function colour(record) {
  switch (record.outcome) {
    case "complete":
    case "probably_complete":
      return "good";
    case "probe":
      return "";
    case "running":
      return "busy";
    case "refused":
      return record.code === 1 ? "warn" : "bad";
    default:
      return "bad";
  }
}

function reason(record) {
  if (!record.reason && record.code === null) return "";
  const code = record.code === null ? "" : "ERROR " + record.code + " ";
  return code + (record.reason || "");
}

function plot(svg, values, width, height) {
  const most = Math.max(1, ...values);
  const step = width / (POINTS - 1);
  const from = width - (values.length - 1) * step;
  const points = values.map((value, i) => (from + i * step).toFixed(1) + "," + (height - 1 - (value / most) * (height - 3)).toFixed(1));
  if (!svg.firstChild) {
    for (const [tag, name] of [["polygon", "area"], ["polyline", "curve"]]) {
      const shape = document.createElementNS(SVG, tag);
      shape.setAttribute("class", name);
      svg.append(shape);
    }
  }
  const flat = points.length ? points : [from + "," + (height - 1)];
  svg.firstChild.setAttribute("points", [from.toFixed(1) + "," + height, ...flat, width + "," + height].join(" "));
  svg.lastChild.setAttribute("points", flat.join(" "));
}

// Running transfers

function row(id) {
  const item = make("li");
  const row = { item, samples: [], id };
  item.dataset.id = id;
  row.client = make("div", "client");
  row.file = make("div", "file");
  row.bar = make("div", "bar");
  row.track = make("div", "track");
  row.fill = make("div", "fill");
  row.percent = make("b");
  row.done = make("span");
  row.plot = document.createElementNS(SVG, "svg");
  row.plot.setAttribute("class", "plot");
  row.plot.setAttribute("viewBox", "0 0 120 32");
  row.plot.setAttribute("preserveAspectRatio", "none");
  row.plot.setAttribute("aria-hidden", "true");
  row.rate = make("div", "rate");
  row.left = make("div", "left");
  row.track.setAttribute("role", "progressbar");
  row.track.append(row.fill);
  row.bar.append(row.track, row.percent, row.done);
  item.append(row.client, row.file, row.bar, row.plot, row.rate, row.left);
  by("running").append(item);
  return row;
}

function showRunning(transfers, count, ended) {
  const seen = new Set();
  for (const transfer of transfers) {
    if (ended.has(transfer.id)) continue;
    seen.add(transfer.id);
    let it = state.rows.get(transfer.id);
    if (!it) state.rows.set(transfer.id, (it = row(transfer.id)));
    const since = it.at === undefined ? transfer.seconds : transfer.seconds - it.at;
    const rate = since > 0 ? Math.max(0, (transfer.bytes - (it.bytes || 0)) / since) : 0;
    it.samples.push(rate);
    if (it.samples.length === 1) it.samples.push(rate);
    if (it.samples.length > POINTS / 2) it.samples.shift();
    [it.at, it.bytes] = [transfer.seconds, transfer.bytes];
    if (!it.client.firstChild) {
      it.client.append(machine(transfer.client), make("small", "", transfer.direction === "read" ? "reads" : "writes"));
      set(it.file, transfer.path);
    }
    const known = transfer.size !== null && transfer.size > 0;
    const part = known ? Math.min(1, transfer.bytes / transfer.size) : 0;
    it.item.classList.toggle("unknown", !known);
    if (known) {
      const percent = Math.floor(part * 100);
      it.fill.style.width = (part * 100).toFixed(1) + "%";
      it.track.setAttribute("aria-valuenow", percent);
      set(it.percent, percent + " %");
      set(it.done, bytes(transfer.bytes) + " of " + bytes(transfer.size));
      set(it.left, rate > 0 ? time((transfer.size - transfer.bytes) / rate) + " left" : time(transfer.seconds));
    } else {
      set(it.done, bytes(transfer.bytes));
      set(it.left, time(transfer.seconds));
    }
    set(it.rate, bytes(rate) + "/s");
    plot(it.plot, spread(it.samples), 120, 32);
  }
  for (const [id, it] of state.rows) {
    if (!seen.has(id)) {
      it.item.remove();
      state.rows.delete(id);
    }
  }
  set(by("running-count"), count ? String(count) : "");
  by("running-none").hidden = seen.size > 0;
  by("running-more").hidden = count <= transfers.length;
  set(by("running-more"), "and " + (count - transfers.length) + " more");
}

/// A short history fills its plot as well.
function spread(samples) {
  return Array.from({ length: POINTS }, (_, i) => samples[Math.floor((i * samples.length) / POINTS)]);
}

// Those who got no answer at all

function showUnanswered(clients) {
  // What is long over explains nothing.
  const recent = clients.filter((client) => client.last < 600).slice(0, 8);
  by("unanswered").hidden = recent.length === 0;
  by("turned-away").replaceChildren(...recent.map((client) => {
    const item = make("li");
    const times = client.requests + (client.requests === 1 ? " request, " : " requests, ") + ago(client.last * 1000);
    item.append(make("b", "", client.client), make("span", "", client.reason), make("small", "", times));
    return item;
  }));
}

// Machines

function known(client) {
  const address = machine(client);
  let it = state.machines.get(address);
  if (!it) state.machines.set(address, (it = { address, records: [], running: [], element: null, touched: true, open: null }));
  return it;
}

function remember(record) {
  record.begin = Date.parse(record.time);
  record.end = record.begin + record.seconds * 1000;
  const it = known(record.client);
  it.records.push(record);
  it.touched = true;
  if (it.records.length > EACH) it.records.shift();
}

/// What runs has its place in the history of its machine already.
function expect(transfers, ended) {
  for (const it of state.machines.values()) {
    it.touched = it.touched || it.running.length > 0;
    it.running = [];
  }
  for (const transfer of transfers) {
    if (ended.has(transfer.id)) continue;
    const it = known(transfer.client);
    const size = transfer.size > 0 ? Math.floor((100 * transfer.bytes) / transfer.size) + " % of " + bytes(transfer.size) : null;
    it.running.push({
      ...transfer, outcome: "running", begin: state.now - transfer.seconds * 1000, end: state.now, asked: {}, code: null,
      filename: transfer.path, reason: size, bytes_per_second: transfer.bytes / Math.max(0.001, transfer.seconds),
    });
    it.touched = true;
  }
}

/// Parts where the machine was silent for long: each is a boot.
function boots(records) {
  // The numbers are given at the beginning.
  const sorted = [...records].sort((a, b) => a.id - b.id);
  const all = [];
  let until = -Infinity;
  for (const record of sorted) {
    if (record.begin - until > PAUSE) all.push([]);
    all[all.length - 1].push(record);
    until = Math.max(until, record.end);
  }
  return all.reverse();
}

/// What a glance should tell of a machine: the trouble that its last boot ended with, if it did.
function verdict(records, busy) {
  if (busy) return ["busy", (busy.direction === "read" ? "fetches " : "sends ") + busy.path];
  // They come in the order of their ends.
  const last = records.findLast((record) => record.outcome !== "probe");
  if (!last) return ["", "has only asked for sizes"];
  const kind = colour(last);
  if (kind === "good") return ["good", (last.direction === "read" ? "has got " : "has sent ") + last.path];
  return [kind, WORDS[last.outcome] + ": " + last.path + (reason(last) ? ", " + reason(last) : "")];
}

/// A client that asks for the same again and again takes one line: the last, with the begin of the first.
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

function line(record, begin, span) {
  const item = make("li");
  const what = make("div", "what");
  what.append(make("span", "path", record.path));
  const facts = [];
  if (record.times) facts.push(record.times + " times");
  if (record.bytes > 0) facts.push(bytes(record.bytes), time(record.seconds), bytes(record.bytes_per_second) + "/s");
  if (record.retransmits > 0) facts.push(record.retransmits + " sent again");
  const why = reason(record);
  if (why) facts.push(why);
  if (facts.length) what.append(make("small", "", facts.join(" · ")));
  const origin = record.origin ? "\nfrom " + record.origin : "";
  const asked = Object.entries(record.asked).map((pair) => pair.join("=")).join(" ");
  what.title = record.direction + " " + record.filename + origin + (asked ? "\nasked " + asked : "");
  const lane = make("div", "lane");
  const piece = make("i", colour(record));
  piece.style.left = Math.min(99, ((record.begin - begin) / span) * 100) + "%";
  piece.style.width = Math.max(0.5, ((record.end - record.begin) / span) * 100) + "%";
  lane.append(piece);
  const end = make("div", "end");
  end.append(make("span", ("chip " + colour(record)).trim(), WORDS[record.outcome] || record.outcome));
  item.append(make("div", "at", "+" + ((record.begin - begin) / 1000).toFixed(2) + " s"), what, lane, end);
  return item;
}

function showMachine(it) {
  const busy = it.running[0];
  const all = boots([...it.records, ...it.running]);
  const [kind, words] = verdict(it.records, busy);
  if (!it.element) {
    it.element = make("details");
    it.element.dataset.machine = it.address;
    const summary = make("summary");
    it.name = make("span", "name", it.address);
    it.verdict = make("span", "verdict");
    it.sum = make("span", "sum");
    summary.append(it.name, it.verdict, it.sum);
    it.body = make("div");
    it.element.append(summary, it.body);
  }
  it.element.className = kind;
  set(it.verdict, words);
  const got = all[0].reduce((sum, record) => sum + record.bytes, 0);
  const end = Math.max(...all[0].map((record) => record.end));
  set(it.sum, bytes(got) + " · " + (busy ? "now" : ago(state.now - end)));
  it.last = busy ? Infinity : end;
  if (!it.touched) return;
  it.touched = false;
  it.body.replaceChildren(...all.map((boot) => {
    const part = make("div", "boot");
    const begin = boot[0].begin;
    const span = Math.max(1, ...boot.map((record) => record.end - begin));
    const list = make("ol");
    list.append(...collapse(boot).map((record) => line(record, begin, span)));
    const at = new Date(begin);
    const today = at.toDateString() === new Date(state.now).toDateString();
    const words = boot.length + (boot.length === 1 ? " transfer in " : " transfers in ") + time(span / 1000);
    part.append(make("h3", "", (today ? at.toLocaleTimeString() : at.toLocaleString()) + " · " + words), list);
    return part;
  }));
}

function showMachines() {
  for (const it of state.machines.values()) {
    if (it.records.length || it.running.length) showMachine(it);
    else forget(it);
  }
  const sorted = [...state.machines.values()].sort((a, b) => (b.last > a.last) - (b.last < a.last));
  const place = by("machines");
  sorted.forEach((it, i) => {
    // What is new, or in trouble, stands open until somebody closes it.
    if (it.open === null) it.open = it.element.open = i < 3 || ["warn", "bad"].includes(it.element.className);
    if (place.children[i] !== it.element) place.insertBefore(it.element, place.children[i] || null);
  });
  // As many as the server keeps.
  sorted.slice(128).forEach(forget);
  set(by("machines-count"), sorted.length ? String(sorted.length) : "");
  by("machines-none").hidden = sorted.length > 0;
}

function forget(it) {
  if (it.element) it.element.remove();
  state.machines.delete(it.address);
}

// Summary

function showTotals(answer) {
  const now = answer.counters;
  const sum = now.bytes_read + now.bytes_written;
  if (state.last) {
    const rate = Math.max(0, ((sum - state.last.sum) * 1000) / Math.max(1, answer.now - state.last.now));
    state.total.push(rate);
    if (state.total.length > POINTS) state.total.shift();
    set(by("rate"), bytes(rate) + "/s");
    plot(by("total"), state.total, 600, 80);
  }
  state.last = { sum, now: answer.now };
  const of = (name) => now.reads[name] + now.writes[name];
  const failed = of("aborted") + of("timed_out") + of("upstream_failed") + of("stopped");
  const unanswered = now.over_limit + now.unanswered;
  const tiles = [
    ["running", now.running, ""],
    ["complete", of("complete") + of("probably_complete"), ""],
    ["refused", of("refused"), ""],
    ["failed", failed, failed ? "bad" : ""],
    ["not answered", unanswered, unanswered ? "warn" : ""],
    ["sent again", now.retransmits, ""],
    ["lost in buffers", now.dropped, now.dropped ? "warn" : ""],
    ["bytes", bytes(sum), ""],
    ["up", time((answer.now - answer.server.started) / 1000), ""],
  ];
  const list = by("tiles");
  tiles.forEach(([name, value, kind], i) => {
    let tile = list.children[i];
    if (!tile) {
      tile = make("div");
      tile.append(make("dt", "", name), make("dd"));
      list.append(tile);
    }
    tile.className = kind;
    set(tile.lastChild, typeof value === "number" ? value.toLocaleString() : value);
  });
}

function show(answer) {
  if (answer.server.started !== state.started) {
    // Another server than before: it remembers other things.
    state.machines.forEach(forget);
    state.rows.forEach((it) => it.item.remove());
    state.rows.clear();
    [state.started, state.last, state.total] = [answer.server.started, null, []];
  }
  [state.next, state.now] = [answer.next, answer.now];
  set(by("served"), answer.server.served);
  set(by("version"), "tuffet " + answer.server.version);
  answer.recent.forEach(remember);
  const ended = new Set(answer.recent.map((record) => record.id));
  expect(answer.running, ended);
  showTotals(answer);
  showRunning(answer.running, answer.running_total, ended);
  showUnanswered(answer.unanswered);
  showMachines();
}

function tell(name, words) {
  by("state").className = name;
  set(by("state"), words);
}

async function ask() {
  try {
    const response = await fetch("api/transfers?since=" + state.next);
    if (!response.ok) throw new Error("status " + response.status);
    const answer = await response.json();
    if (answer.server.started !== state.started && state.next > 0) {
      state.next = 0;
      return ask();
    }
    show(answer);
    state.lost = 0;
    tell("live", "live");
  } catch (error) {
    state.lost = state.lost || Date.now();
    tell("lost", "no answer since " + new Date(state.lost).toLocaleTimeString());
  }
}

async function live() {
  for (;;) {
    if (!document.hidden) await ask();
    await new Promise((resolve) => setTimeout(resolve, INTERVAL));
  }
}

live();
