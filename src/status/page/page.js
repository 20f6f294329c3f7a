// The live page: asks the server once a second, and shows the answer.

import { element, expect, forgetMachines, judged, matches, place, remember } from "./machines.js";
import { forgetRunning, showRunning } from "./running.js";
import { FILTERS, filter, forgetTotals, showFilter, showHour, showTotals } from "./summary.js";
import { showTrouble, showUnanswered } from "./trouble.js";
import { by, clock, date, machine, more, set } from "./words.js";

/// Milliseconds between two requests.
const INTERVAL = 1000;
/// Every how many requests the page also asks for the data that changes slowly.
const SLOWLY = 5;
/// How many machines are shown until the user asks for all.
const FIRST = 25;

const state = { started: 0, next: 0, lost: 0, asked: 0, macAddresses: {}, answer: null, showsAll: false };
const macOf = (address) => state.macAddresses[address] || "";

function draw() {
  const answer = state.answer;
  if (!answer) return;
  const search = by("search").value.trim().toLowerCase();
  const chosen = FILTERS[filter()];
  const all = judged(macOf);
  const shown = all.filter((it) => (!search || matches(it, search)) && (!chosen || chosen.shows(it)));
  const troubled = all.filter((it) => it.trouble).length;
  showTotals(answer, troubled, draw);
  showFilter(search, draw);
  showTrouble(shown.filter((it) => it.trouble), troubled, answer.now, Boolean(search));
  const words = (transfer) => [machine(transfer.client), macOf(machine(transfer.client)), transfer.path];
  const isWanted = (transfer) => words(transfer).some((word) => word.toLowerCase().includes(search));
  showRunning(answer.running.filter(isWanted), answer.running.length, answer.running_total, macOf);
  const isWantedClient = ({ client }) => [client, macOf(client)].some((word) => word.toLowerCase().includes(search));
  const isAnyUnanswered = showUnanswered(answer.unanswered.filter(isWantedClient), macOf);
  showRest(shown.filter((it) => !it.trouble), all.length, troubled);
  for (const section of ["trouble", "run", "unanswered", "rest"]) {
    const isOut = chosen && !chosen.sections.includes(section);
    by(section).hidden = Boolean(isOut || (section === "unanswered" && !isAnyUnanswered));
  }
}

function showRest(machines, count, troubled) {
  const some = state.showsAll ? machines : machines.slice(0, FIRST);
  place(by("machines"), some.map(element));
  set(by("machines-count"), count ? count - troubled + (troubled ? ", and " + troubled + " in trouble" : "") : "");
  by("machines-none").hidden = count > 0;
  more(by("machines-more"), machines.length - some.length, state.showsAll && machines.length > FIRST, () => {
    state.showsAll = !state.showsAll;
    draw();
  });
}

function show(answer) {
  if (answer.server.started !== state.started) {
    forgetMachines();
    forgetRunning();
    forgetTotals();
    state.started = answer.server.started;
  }
  state.next = answer.next;
  set(by("served"), answer.server.served);
  set(by("version"), "tuffet " + answer.server.version);
  set(by("clock"), date(answer.now) + " " + clock(answer.now));
  by("clock").dateTime = by("clock").title = new Date(answer.now).toISOString();
  answer.recent.forEach(remember);
  // A transfer that ends while the server makes its answer is in both lists.
  const ended = new Set(answer.recent.map((record) => record.id));
  const running = answer.running.filter((transfer) => !ended.has(transfer.id));
  answer.running_total -= answer.running.length - running.length;
  answer.running = running;
  expect(answer.running, answer.now);
  state.answer = answer;
  draw();
}

function tell(name, words) {
  by("state").className = name;
  set(by("state"), words);
}

async function get(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error("status " + response.status);
  return response.json();
}

async function ask() {
  try {
    if (state.asked++ % SLOWLY === 0) {
      const server = await get("api/server");
      state.macAddresses = server.mac_addresses;
      set(by("listening"), server.listening.length ? "on " + server.listening.join(", ") : "");
      showHour(server.rates);
    }
    const answer = await get("api/transfers?since=" + state.next);
    if (answer.server.started !== state.started && state.next > 0) {
      // The server has been started again.
      state.next = 0;
      return ask();
    }
    show(answer);
    state.lost = 0;
    tell("live", "live");
  } catch (error) {
    state.lost = state.lost || Date.now();
    tell("lost", "no answer since " + clock(state.lost));
  }
}

async function live() {
  for (;;) {
    if (!document.hidden) await ask();
    await new Promise((resolve) => setTimeout(resolve, INTERVAL));
  }
}

by("search").addEventListener("input", draw);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== by("search")) {
    event.preventDefault();
    by("search").focus();
  }
});
live();
