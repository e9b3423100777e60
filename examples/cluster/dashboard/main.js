// The page: what was told is kept in `state`, each part of the page is a function of it.

import { ask, follow, Refused, segment, useToken } from "./api.js";
import { button, el, show } from "./dom.js";
import { deadlocksView, graphView, locksView } from "./locks.js";
import { linesView, queuesView } from "./data.js";
import { linksView, nodesView } from "./nodes.js";
import { ringView } from "./ring.js";

const KEYS_MAX = 8;
const DRAWN_FOR = 20_000;
const SAID_FOR = 6_000;
const state = { keys: ["greeting", "counter"], live: "connecting" };
const $ = (id) => document.getElementById(id);

const play = {
  locks: () => state.demo && button("deadlock", {}, "Play a deadlock"),
  queues: () => state.demo && [button("publish", {}, "Send ten messages"), button("receive", {}, "Work on five")],
};

const parts = {
  "node-cards": nodesView, links: linksView, locks: locksView, graph: graphView, deadlocks: deadlocksView,
  lines: linesView, ring: ringView, queues: queuesView, "locks-play": play.locks, "queues-play": play.queues,
  banner: bannerView,
};

function bannerView() {
  if (state.live !== "lost") return null;
  const others = (state.nodes?.nodes ?? []).filter((node) => node.id !== state.nodes.here);
  return el("p", { class: "banner" }, `${state.problem} What you see is what was. `,
    others.length > 0 && ["The cluster is also at ", others.map((node, at) => [at ? ", " : "", el("a", { href: `${node.url}/` }, node.id)]), "."]);
}

let scheduled = false;
function render() {
  if (scheduled) return;
  scheduled = true;
  // A page in the background is not drawn, and need not be.
  (document.hidden ? setTimeout : requestAnimationFrame)(() => {
    scheduled = false;
    for (const [id, view] of Object.entries(parts)) show($(id), view(state));
    $("cluster").textContent = state.nodes ? state.nodes.cluster : "";
    $("live").className = `live ${state.live}`;
    $("live").textContent = state.live;
    $("token").hidden = state.live !== "locked";
    document.body.dataset.live = state.live;
  });
}

let drawnUntil = 0;
function draw(deadlock) {
  state.drawn = deadlock;
  clearTimeout(drawnUntil);
  drawnUntil = setTimeout(() => { state.drawn = null; render(); }, DRAWN_FOR);
}

/** A deadlock that was prevented while one looks is drawn. */
function heardOfDeadlocks(before, now) {
  const last = (list) => list?.deadlocks.at(-1)?.log_index ?? 0;
  if (before !== undefined && now && last(now) > last(before)) draw(now.deadlocks.at(-1));
}

const anew = follow(() => state.keys, (name, data) => {
  if (name === "deadlocks") {
    // While nobody can be asked, what was known stays.
    if (data === null) return;
    heardOfDeadlocks(state.deadlocks, data);
  }
  state[name] = data;
  render();
}, (live, problem) => {
  state.live = live;
  state.problem = problem;
  render();
});

let unsaid = 0;
function say(text) {
  $("said").textContent = text;
  clearTimeout(unsaid);
  unsaid = setTimeout(() => { $("said").textContent = ""; }, SAID_FOR);
}

const problemOf = (error) => (error instanceof Refused ? error.message : "the node does not answer");

const isWaiting = (session) => (state.waits?.edges ?? []).some((edge) => edge.waiter === session);

const actions = {
  async demo({ node, action }) {
    await ask("POST", `/v1/demo/nodes/${segment(node)}`, { json: { action } });
  },
  async read({ line: key, node }) {
    const answer = await ask("GET", `/v1/cache/${segment(key)}`, { headers: { "x-dss-at": node } });
    say(`${node} read ${JSON.stringify((await answer.text()).slice(0, 60))}: a ${answer.headers.get("x-cache")}.`);
  },
  async write({ line: key, node }) {
    const text = $("value").value;
    await ask("PUT", `/v1/cache/${segment(key)}`, { text, headers: { "x-dss-at": node } });
    say(`${node} wrote ${JSON.stringify(text.slice(0, 60))}.`);
  },
  forget({ line: key }) {
    state.keys = state.keys.filter((other) => other !== key);
    anew();
  },
  draw({ index }) {
    const deadlock = state.deadlocks?.deadlocks.find((one) => String(one.log_index) === index);
    if (state.drawn?.log_index === deadlock?.log_index) state.drawn = null;
    else if (deadlock) draw(deadlock);
  },
  async deadlock() {
    const lock = (name, session, wait) =>
      ask("POST", `/v1/locks/${segment(name)}/acquire`, { json: { session, wait_ms: wait, ttl_ms: 15_000 } });
    const [names, sessions] = [["pen", "paper", "ink"], ["ada", "bob", "cyd"]];
    await Promise.all(names.map((name, at) => lock(name, sessions[at], 0)));
    const waits = [lock("paper", "ada", 12_000), lock("ink", "bob", 12_000)];
    waits.forEach((wait) => wait.catch(() => {}));
    // Time to look at it, and more where it takes longer until both are seen to wait.
    for (let waited = 0; waited < 1_500 || (waited < 9_000 && !["ada", "bob"].every(isWaiting)); waited += 250) {
      await new Promise((resume) => setTimeout(resume, 250));
    }
    // The third wait would close the circle: it is refused, which is what there is to see.
    await lock("pen", "cyd", 12_000).catch((error) => { if (error.code !== "deadlock") throw error; });
  },
  async publish() {
    const messages = Array.from({ length: 10 }, (_, at) => ({ payload: `message ${at + 1}` }));
    await ask("POST", "/v1/queues/jobs/messages", { json: { messages } });
  },
  async receive() {
    const group = "/v1/queues/jobs/groups/workers";
    const answer = await ask("POST", `${group}/receive`, { json: { consumer: "dashboard", max: 5, visibility_ms: 5_000 } });
    const receipts = (await answer.json()).messages.map((message) => message.receipt);
    await new Promise((resume) => setTimeout(resume, 2_000));
    // The last one is left, to be delivered again.
    if (receipts.length > 1) await ask("POST", `${group}/ack`, { json: { receipts: receipts.slice(0, -1) } });
  },
};

document.addEventListener("click", async (event) => {
  const chosen = event.target.closest("button[data-do]");
  if (!chosen) return;
  try {
    await actions[chosen.dataset.do](chosen.dataset);
  } catch (error) {
    say(`${chosen.getAttribute("aria-label") ?? chosen.textContent}: ${problemOf(error)}.`);
  }
  render();
});

$("watch").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = $("key").value.trim();
  if (!key || state.keys.includes(key)) return;
  if (state.keys.length >= KEYS_MAX) {
    say(`Only ${KEYS_MAX} keys can be watched at a time.`);
    return;
  }
  state.keys = [...state.keys, key];
  $("key").value = "";
  anew();
  render();
});

$("token").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken($("secret").value.trim());
  $("secret").value = "";
  anew();
});

render();
