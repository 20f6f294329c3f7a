// Words, numbers and elements. Clients choose the names, so all text is set as text, never as markup.

/// A machine that asks for a file after this many milliseconds of silence begins a new boot.
const PAUSE = 120e3;

const SVG = "http://www.w3.org/2000/svg";
const OUTCOMES = {
  complete: ["good", "complete"],
  probably_complete: ["good", "probably complete"],
  probe: ["", "asked for the size"],
  aborted: ["bad", "aborted by the client"],
  timed_out: ["bad", "timed out"],
  refused: ["bad", "refused"],
  failed: ["bad", "failed on this server"],
  upstream_failed: ["bad", "upstream failed"],
  replaced: ["", "replaced by a new request"],
  stopped: ["warn", "server stopped"],
  running: ["busy", "running"],
};
/// The outcomes of transfers that went wrong and were not refused, with their words.
export const FAILED = Object.entries(OUTCOMES).filter(([name, [kind]]) => kind === "bad" && name !== "refused").map(([name, [, words]]) => [name, words]);
/// What the ERROR of a refusal means, in short.
const CODES = { 1: "not found", 2: "not allowed", 3: "too big, or disk full", 4: "malformed request", 6: "exists already", 8: "options not agreed" };

export const by = (id) => document.getElementById(id);

/// Makes an element with a class and text.
export function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

export function shape(tag, name) {
  const element = document.createElementNS(SVG, tag);
  element.setAttribute("class", name);
  return element;
}

export function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) {
    n /= 1024;
    unit++;
  }
  return (unit === 0 || n >= 99.95 ? Math.round(n) : n.toFixed(1)) + " " + units[unit];
}

export function time(seconds) {
  if (seconds < 0.0095) return "<10 ms";
  if (seconds < 0.995) return Math.round(seconds * 1000) + " ms";
  if (seconds < 99.5) return seconds.toFixed(1) + " s";
  if (seconds < 5940) return Math.round(seconds / 60) + " min";
  if (seconds < 48 * 3600) return Math.round(seconds / 3600) + " h";
  return Math.round(seconds / 86400) + " days";
}

export function ago(ms) {
  if (ms < 2000) return "now";
  return (ms < 60e3 ? Math.round(ms / 1000) + " s" : time(ms / 1000)) + " ago";
}

export function plural(count, one, many = one + "s") {
  return count.toLocaleString("en") + " " + (count === 1 ? one : many);
}

const two = (n) => String(n).padStart(2, "0");

/// 2026-11-25
export function date(ms) {
  const at = new Date(ms);
  return at.getFullYear() + "-" + two(at.getMonth() + 1) + "-" + two(at.getDate());
}

/// 03:07:09
export function clock(ms) {
  const at = new Date(ms);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
}

/// The time, and the date if it is not today.
export function when(ms, now) {
  return (date(ms) === date(now) ? "" : date(ms) + " ") + clock(ms);
}

/// The address without its port: 10.0.0.7:2070, [fe80::1]:2070.
export function machine(client) {
  const address = client.slice(0, client.lastIndexOf(":")).replace(/^\[|\]$/g, "");
  return address.replace(/^::ffff:(?=\d+\.)/, "");
}

/// good, warn, bad, busy, or nothing that matters.
export function colour(record) {
  // Many boots ask for files that do not exist.
  if (record.outcome === "refused" && record.code === 1) return "warn";
  return (OUTCOMES[record.outcome] || ["bad"])[0];
}

export const isTrouble = (record) => ["warn", "bad"].includes(colour(record));

/// The outcome of a transfer, in two or three words.
export function cause(record) {
  if (record.outcome === "refused" && CODES[record.code]) return CODES[record.code];
  return (OUTCOMES[record.outcome] || ["", record.outcome.replace(/_/g, " ")])[1];
}

/// The client's own reason for the end: the text of its ERROR, or that its port is closed.
export const told = (record) => (["aborted", "timed_out"].includes(record.outcome) && record.reason) || "";

/// The beginning of a text, so that it fits beside others.
export const short = (text) => (text.length > 60 ? text.slice(0, 59) + "…" : text);

/// All that is known of the cause.
export function reason(record) {
  const code = record.code === null ? "" : "ERROR " + record.code + " ";
  return (code + (record.reason || "")).trim();
}

/// The path without the parts that name one machine, so that the same trouble of several machines gets one line.
export function common(path) {
  const hex = "[0-9a-fA-F]";
  return path
    .replace(new RegExp(`${hex}{8}-${hex}{4}-${hex}{4}-${hex}{4}-${hex}{12}`, "g"), "‹UUID›")
    .replace(new RegExp(`(01-)?${hex}{2}([-:])(${hex}{2}\\2){4}${hex}{2}`, "g"), (_, type) => (type || "") + "‹MAC›")
    .replace(/\b\d{1,3}(\.\d{1,3}){3}\b/g, "‹IP›")
    .replace(/(^|\/)[0-9A-F]{8}$/, "$1‹IP›");
}

/// Splits the records at long silences of the machine: each part is a boot, the last one first.
export function boots(records) {
  // A transfer gets its number when it begins.
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

/// A button for what a list leaves out.
export function more(button, left, all, redraw) {
  button.hidden = left <= 0 && !all;
  set(button, all ? "show fewer" : "show " + left + " more");
  button.onclick = redraw;
}
