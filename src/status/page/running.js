// The transfers that run: a row for each.

import { by, bytes, machine, make, more, set, shape, time } from "./words.js";

/// Samples of a row's plot: a minute.
const POINTS = 60;
/// How many rows are shown until the user asks for all.
const FIRST = 12;

const rows = new Map();
let showsAll = false;

function row(id) {
  const item = make("li");
  const row = { item, samples: [], at: null, bytes: 0 };
  item.dataset.id = id;
  for (const name of ["client", "file", "bar", "track", "fill"]) row[name] = make("div", name);
  [row.percent, row.done] = [make("b"), make("span")];
  row.plot = shape("svg", "plot");
  row.plot.setAttribute("viewBox", "0 0 120 32");
  row.plot.setAttribute("preserveAspectRatio", "none");
  row.plot.setAttribute("aria-hidden", "true");
  row.curve = shape("polyline", "curve");
  row.plot.append(row.curve);
  [row.rate, row.left] = [make("div", "rate"), make("div", "left")];
  row.track.setAttribute("role", "progressbar");
  row.track.append(row.fill);
  row.bar.append(row.track, row.percent, row.done);
  item.append(row.client, row.file, row.bar, row.plot, row.rate, row.left);
  by("running").append(item);
  return row;
}

function show(it, transfer, card) {
  const seconds = it.at === null ? Math.max(0.001, transfer.seconds) : transfer.seconds - it.at;
  if (seconds > 0.05) {
    it.speed = Math.max(0, transfer.bytes - it.bytes) / seconds;
    it.samples.push(it.speed);
    if (it.samples.length > POINTS) it.samples.shift();
    [it.at, it.bytes] = [transfer.seconds, transfer.bytes];
  }
  const rate = it.speed || 0;
  if (!it.client.firstChild) {
    it.client.append(machine(transfer.client), make("small"));
    set(it.file, transfer.path);
    it.track.setAttribute("aria-label", machine(transfer.client) + " " + transfer.path);
  }
  const way = (transfer.direction === "read" ? "reads" : "writes") + (transfer.protocol === "http" ? " over HTTP" : "");
  set(it.client.lastChild, [way, card].filter(Boolean).join(" · "));
  const known = transfer.size !== null && transfer.size > 0;
  it.item.classList.toggle("unknown", !known);
  if (known) {
    const part = Math.min(1, transfer.bytes / transfer.size);
    const percent = Math.floor(part * 100);
    it.fill.style.width = (part * 100).toFixed(1) + "%";
    it.track.setAttribute("aria-valuenow", percent);
    set(it.percent, percent + " %");
    set(it.done, bytes(transfer.bytes) + " of " + bytes(transfer.size));
    set(it.left, rate > 0 ? time((transfer.size - transfer.bytes) / rate) + " left" : time(transfer.seconds));
  } else {
    set(it.done, bytes(transfer.bytes) + ", size unknown");
    set(it.left, time(transfer.seconds));
  }
  set(it.rate, bytes(rate) + "/s");
  const most = Math.max(1, ...it.samples);
  const last = Math.max(1, it.samples.length - 1);
  const point = (value, i) => ((i / last) * 120).toFixed(1) + "," + (31 - (value / most) * 29).toFixed(1);
  it.curve.setAttribute("points", (it.samples.length > 1 ? it.samples : [rate, rate]).map(point).join(" "));
}

/// Shows these transfers. `listed` is their number without the search, and `count` that of all running transfers.
export function showRunning(transfers, listed, count, macOf) {
  const shown = showsAll ? transfers : transfers.slice(0, FIRST);
  for (const transfer of shown) {
    if (!rows.has(transfer.id)) rows.set(transfer.id, row(transfer.id));
    show(rows.get(transfer.id), transfer, macOf(machine(transfer.client)));
  }
  const ids = new Set(shown.map((transfer) => transfer.id));
  for (const [id, it] of rows) {
    if (!ids.has(id)) {
      it.item.remove();
      rows.delete(id);
    }
  }
  set(by("running-count"), count ? count + (listed < count ? ", the oldest " + listed + " listed" : "") : "");
  by("running-none").hidden = shown.length > 0;
  more(by("running-more"), transfers.length - shown.length, showsAll && transfers.length > FIRST, () => {
    showsAll = !showsAll;
    showRunning(transfers, listed, count, macOf);
  });
}

/// Forgets all transfers, because the server has been started again.
export function forgetRunning() {
  rows.forEach((it) => it.item.remove());
  rows.clear();
}
