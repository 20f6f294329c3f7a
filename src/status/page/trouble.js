// The machines whose last transfer went wrong, and those that got no answer at all. Machines with the same trouble
// share one line.

import { element, place } from "./machines.js";
import { ago, by, cause, colour, common, make, more, plural, reason, set, short, told } from "./words.js";

/// How many lines are shown until the user asks for all.
const FIRST = 12;
/// Clients whose last unanswered request is older than this, in seconds, are not shown.
const RECENT = 600;

const groups = new Map(); // by what went wrong
let showsAll = false;

/// The trouble of a record. The hint and the client's own words are part of it: another machine whose transfer ended in
/// the same way may need other advice.
const key = (record) => JSON.stringify([
  record.outcome, record.code, record.direction, common(record.path), record.hint, told(record),
]);

function group(name) {
  const it = { element: make("details", ""), searched: false };
  it.element.dataset.group = name;
  const summary = make("summary");
  [it.count, it.words, it.sum] = [make("span", "name"), make("span", "verdict"), make("span", "sum")];
  it.hint = make("span", "hint");
  summary.append(it.count, it.words, it.sum, it.hint);
  it.why = make("p", "why");
  it.list = make("div", "members");
  it.element.append(summary, it.why, it.list);
  return it;
}

/// Draws the machines with one trouble, the latest first.
function draw(name, members, now, isSearched) {
  const last = members[0].trouble;
  if (!groups.has(name)) groups.set(name, group(name));
  const it = groups.get(name);
  it.element.className = "group " + colour(last);
  const one = [members[0].address, members[0].card].filter(Boolean).join(" ");
  set(it.count, members.length === 1 ? one : plural(members.length, "machine"));
  set(it.words, common(last.path) + ": " + cause(last) + (told(last) && ": " + short(told(last))));
  set(it.sum, ago(now - members[0].heard));
  set(it.hint, last.hint || "");
  it.hint.hidden = !it.hint.textContent;
  set(it.why, [reason(last), last.path].filter(Boolean).join(", last for "));
  // A search opens the groups, and its end closes them.
  if (isSearched !== it.searched) it.element.open = it.searched = isSearched;
  place(it.list, members.map(element));
  return it.element;
}

export function showTrouble(machines, count, now, isSearched) {
  const found = new Map();
  for (const it of machines) {
    const name = key(it.trouble);
    found.set(name, [...(found.get(name) || []), it]);
  }
  // The groups with the most machines come first, and of equal ones the worse.
  const rank = ([, members]) => members.length + (colour(members[0].trouble) === "bad" ? 0.5 : 0);
  const sorted = [...found].sort((a, b) => rank(b) - rank(a) || b[1][0].heard - a[1][0].heard);
  const shown = showsAll ? sorted : sorted.slice(0, FIRST);
  const elements = shown.map(([name, members]) => draw(name, members, now, isSearched));
  place(by("troubles"), elements);
  for (const [name, it] of groups) {
    if (!it.element.isConnected) groups.delete(name);
  }
  set(by("trouble-count"), count ? plural(count, "machine") : "");
  by("trouble-none").hidden = machines.length > 0;
  more(by("troubles-more"), sorted.length - shown.length, showsAll && sorted.length > FIRST, () => {
    showsAll = !showsAll;
    showTrouble(machines, count, now, isSearched);
  });
}

/// Returns whether there are such clients.
export function showUnanswered(clients, macOf) {
  const recent = clients.filter((client) => client.last < RECENT).slice(0, 8);
  by("unanswered-clients").replaceChildren(...recent.map((client) => {
    const item = make("li");
    const name = make("b", "", client.client);
    name.append(make("small", "", macOf(client.client)));
    const times = plural(client.requests, "request") + ", " + ago(client.last * 1000);
    item.append(name, make("span", "", client.reason), make("small", "", times));
    return item;
  }));
  return recent.length > 0;
}
