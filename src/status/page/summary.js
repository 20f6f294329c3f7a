// The head of the page: counters, which also filter the lists below, and the throughput of the last hour.

import { FAILED, by, bytes, make, plural, set, shape, time } from "./words.js";

/// Samples of an hour.
const HOUR = 720;

/// Which part of the page each filter shows, and which machines.
export const FILTERS = {
  trouble: { sections: ["trouble", "unanswered"], shows: (it) => it.trouble },
  running: { sections: ["run", "rest"], shows: (it) => it.busy },
  complete: { sections: ["rest"], shows: (it) => !it.trouble && it.last && !it.busy },
  refused: { sections: ["trouble", "rest"], shows: (it) => it.boots[0].some((record) => record.outcome === "refused") },
  failed: {
    sections: ["trouble", "rest"],
    shows: (it) => it.boots[0].some((record) => FAILED.some(([name]) => name === record.outcome)),
  },
  unanswered: { sections: ["unanswered"], shows: () => false },
};

let chosen = null;
let last = null;

/// The filter that is chosen, if one is.
export const filter = () => chosen;

function tiles(answer, troubled) {
  const now = answer.counters;
  const of = (...names) => names.reduce((sum, name) => sum + (now.reads[name] || 0) + (now.writes[name] || 0), 0);
  const failed = of(...FAILED.map(([name]) => name));
  const unanswered = now.over_limit + now.unanswered;
  return [
    ["trouble", "in trouble", troubled, troubled ? "bad" : "", "Machines whose last transfer failed."],
    ["running", "running", now.running, "", "Transfers that are running now."],
    ["complete", "complete", of("complete", "probably_complete"), "", "Transfers that have ended well since the server began."],
    ["refused", "refused", of("refused"), "", "Transfers that the server refused: mostly files that are not there, which many boots ask for."],
    ["failed", "failed", failed, failed ? "bad" : "", "Transfers: " + FAILED.map(([name, words]) => `${words} ${of(name)}`).join(", ") + "."],
    ["unanswered", "not answered", unanswered, unanswered ? "warn" : "", `Requests over a limit ${now.over_limit}, not admitted or while stopping ${now.unanswered}.`],
    [null, "sent again", now.retransmits, "", "Packets sent again because their acknowledgment did not come in time: packets were lost, or clients are slow."],
    [null, "lost in buffers", now.dropped, now.dropped ? "warn" : "", "Datagrams that the system dropped because a receive buffer was full."],
    [null, "bytes", bytes(now.bytes_read + now.bytes_written), "", `Read ${bytes(now.bytes_read)}, written ${bytes(now.bytes_written)}.`],
    [null, "up", time((answer.now - answer.server.started) / 1000), "", "Since the server started."],
  ];
}

export function showTotals(answer, troubled, redraw) {
  const list = by("tiles");
  tiles(answer, troubled).forEach(([name, label, value, kind, tip], i) => {
    let tile = list.children[i];
    if (!tile) {
      tile = make(name ? "button" : "div");
      tile.append(make("span", "label", label), make("b"), make("span", "tip"));
      [tile.lastChild.id, tile.tabIndex] = ["tip-" + i, 0];
      tile.lastChild.setAttribute("role", "tooltip");
      tile.setAttribute("aria-describedby", "tip-" + i);
      if (name) {
        tile.dataset.filter = name;
        tile.addEventListener("click", () => {
          chosen = chosen === name ? null : name;
          redraw();
        });
      }
      list.append(tile);
    }
    if (name) tile.setAttribute("aria-pressed", String(chosen === name));
    tile.className = "tile " + kind;
    set(tile.children[1], typeof value === "number" ? value.toLocaleString("en") : value);
    set(tile.lastChild, tip);
  });
  const sum = answer.counters.bytes_read + answer.counters.bytes_written;
  if (last && answer.now > last.now) {
    set(by("rate"), "now " + bytes(Math.max(0, ((sum - last.sum) * 1000) / (answer.now - last.now))) + "/s");
  }
  if (!last || answer.now > last.now) last = { sum, now: answer.now };
}

export function forgetTotals() {
  last = null;
}

/// Shows the current filter and search, with a button that ends both.
export function showFilter(search, redraw) {
  const words = [];
  if (chosen) words.push("Only " + chosen.replace("unanswered", "not answered"));
  if (search) words.push((chosen ? "with" : "Only with") + " “" + search + "”");
  by("filtered").hidden = words.length === 0;
  if (words.length === 0) return by("filtered").replaceChildren();
  const all = make("button", "", "show all");
  all.addEventListener("click", () => {
    chosen = null;
    by("search").value = "";
    redraw();
  });
  if (by("filtered").firstChild?.textContent === words.join(" ") + ". ") return;
  by("filtered").replaceChildren(make("span", "", words.join(" ") + ". "), all);
}

/// The smallest of 1, 2, 5, 10 … B, KiB, MiB … that is not less than `most`.
function scale(most) {
  let unit = 1;
  while (unit * 1000 < most) unit *= 1024;
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
  return unit * steps.find((step) => unit * step >= most);
}

export function showHour(rates) {
  const svg = by("total");
  if (!svg.firstChild) {
    for (const y of [1, 50, 99]) {
      const line = shape("line", "rule");
      for (const [name, value] of [["x1", 0], ["x2", HOUR], ["y1", y], ["y2", y]]) line.setAttribute(name, value);
      svg.append(line);
    }
    svg.append(shape("polygon", "area"), shape("polyline", "curve"));
  }
  const top = scale(Math.max(1024, ...rates));
  const x = (i) => HOUR - rates.length + i + 1;
  const points = rates.map((rate, i) => x(i) + "," + (99 - (rate / top) * 98).toFixed(1));
  const [area, curve] = [...svg.children].slice(-2);
  area.setAttribute("points", rates.length ? [x(0) + ",99", ...points, HOUR + ",99"].join(" ") : "");
  curve.setAttribute("points", points.join(" "));
  set(by("scale-top"), bytes(top) + "/s");
  set(by("scale-middle"), bytes(top / 2) + "/s");
  const most = Math.max(0, ...rates);
  svg.setAttribute("aria-label", `Bytes per second of all transfers over the last ${plural(Math.round(rates.length / 12), "minute")}, at most ${bytes(most)}/s`);
}
