// Locks: who holds them, who waits, and the wait-for graph as a drawing.

import { button, el, plural, svg } from "./dom.js";

const DRAWN_MAX = 14;
const WIDTH = 520;

function holder({ session, owner, mode, fencing_token: token }) {
  return el("span", { class: "who" },
    owner ? `${session} / ${owner}` : session,
    el("span", { class: "quiet" }, mode === "shared" ? " shared" : ""),
    el("span", { class: "token", title: "Fencing token" }, `#${token}`));
}

function row(lock) {
  const waiting = lock.queue.map(({ session, owner, mode }) =>
    el("li", {}, owner ? `${session} / ${owner}` : session, mode === "shared" && el("span", { class: "quiet" }, " shared")));
  return el("tr", { "data-key": lock.lock },
    el("th", { scope: "row" }, lock.lock),
    el("td", { "data-label": "Held by" }, lock.holders.map(holder)),
    el("td", { "data-label": "Waiting" }, waiting.length ? el("ol", { class: "waiting" }, waiting) : el("span", { class: "quiet" }, "nobody")));
}

export function locksView({ locks }) {
  if (locks === undefined) return el("p", { class: "quiet" }, "Asking …");
  if (locks === null) return el("p", { class: "note" }, "No leader of the locks can be asked at the moment.");
  if (!locks.locks.length) {
    return [
      el("p", { class: "quiet" }, "No lock is held. Take one:"),
      el("pre", {}, `curl -H 'content-type: application/json' \\\n  -d '{"session":"me"}' \\\n  ${location.origin}/v1/locks/demo/acquire`),
    ];
  }
  return [
    el("table", { class: "stack" },
      el("thead", {}, el("tr", {}, ["Lock", "Held by", "Waiting"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, locks.locks.map(row))),
    locks.next && el("p", { class: "quiet" }, `These are the first ${locks.locks.length}.`),
  ];
}

/** Where each session is drawn: on an ellipse, in the order of their names. */
function places(sessions, height) {
  const [x, y] = [WIDTH / 2, height / 2];
  const wide = sessions.length === 2 ? 150 : 185;
  return new Map(sessions.map((session, at) => {
    const angle = (at / sessions.length) * 2 * Math.PI - (sessions.length === 2 ? Math.PI : Math.PI / 2);
    return [session, { x: x + Math.cos(angle) * wide, y: y + Math.sin(angle) * (height / 2 - 34) }];
  }));
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const widthOf = (session) => Math.min(session.length, 16) * 7.6 + 26;

/** From the rim of one box towards a point. */
function rim(from, session, towards) {
  const [dx, dy] = [towards.x - from.x, towards.y - from.y];
  const [w, h] = [widthOf(session) / 2 + 5, 20];
  const scale = Math.min(Math.abs(w / (dx || 0.01)), Math.abs(h / (dy || 0.01)));
  return { x: from.x + dx * scale, y: from.y + dy * scale };
}

function arrow(edge, at) {
  const [from, to] = [at.get(edge.waiter), at.get(edge.holder)];
  if (!from || !to) return null;
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const bend = 0.17;
  const middle = { x: (from.x + to.x) / 2 - dy * bend, y: (from.y + to.y) / 2 + dx * bend };
  const [begin, end] = [rim(from, edge.waiter, middle), rim(to, edge.holder, middle)];
  const label = { x: (begin.x + 2 * middle.x + end.x) / 4, y: (begin.y + 2 * middle.y + end.y) / 4 };
  const key = `${edge.refused ? "!" : ""}${edge.waiter}\n${edge.holder}\n${edge.lock}`;
  const word = cut(edge.lock, 18);
  return svg("g", { class: edge.refused ? "edge refused" : "edge", "data-key": key },
    svg("path", { d: `M${begin.x} ${begin.y}Q${middle.x} ${middle.y} ${end.x} ${end.y}`, "marker-end": `url(#${edge.refused ? "refused-tip" : "tip"})` }),
    word && svg("rect", { class: "under", x: label.x - word.length * 3.6 - 4, y: label.y - 9, width: word.length * 7.2 + 8, height: 18, rx: 4 }),
    word && svg("text", { x: label.x, y: label.y + 4 }, word));
}

function box(session, place, isIn) {
  const width = widthOf(session);
  return svg("g", { class: isIn ? "session cycle" : "session", "data-key": session },
    svg("title", {}, session),
    svg("rect", { x: place.x - width / 2, y: place.y - 15, width, height: 30, rx: 15 }),
    svg("text", { x: place.x, y: place.y + 5 }, cut(session, 16)));
}

const tip = (id) => svg("marker", { id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto", "data-key": id },
  svg("path", { d: "M0 0L8 4L0 8Z" }));

/** The edges of a cycle that was refused; the one that would have closed it is its own. */
function cycleEdges({ cycle, session, lock }) {
  return cycle.map((waiter, at) => ({
    waiter, holder: cycle[(at + 1) % cycle.length], lock: waiter === session ? lock : "", refused: true,
  }));
}

export function graphView({ waits, drawn }) {
  if (waits === null && !drawn) return el("p", { class: "note" }, "No leader of the locks can be asked at the moment.");
  const edges = waits?.edges ?? [];
  const cycle = drawn ? cycleEdges(drawn) : [];
  if (!edges.length && !cycle.length) return el("p", { class: "quiet still" }, "Nobody waits for anybody.");
  // Of two waits of one session for another, the refused one is drawn, unless it stands already.
  const waiting = new Set(edges.map((edge) => `${edge.waiter}\n${edge.holder}`));
  const all = [...edges, ...cycle.filter((edge) => edge.lock || !waiting.has(`${edge.waiter}\n${edge.holder}`))];
  const known = [...new Set(all.flatMap((edge) => [edge.waiter, edge.holder]))].sort();
  const sessions = known.slice(0, DRAWN_MAX);
  const height = 300;
  const at = places(sessions, height);
  const inCycle = new Set(drawn?.cycle ?? []);
  const ys = [...at.values()].map(({ y }) => y);
  const [top, bottom] = [Math.min(...ys) - 34, Math.max(...ys) + 34];
  const said = drawn
    ? `${drawn.session} asked for ${drawn.lock}, which would have closed a circle: ${drawn.resolution === "refused" ? "it was refused" : "it was let past those who only wait"}.`
    : `${plural(edges.length, "wait")}, and no circle among them.`;
  return [
    svg("svg", { class: "graph", viewBox: `0 ${top} ${WIDTH} ${bottom - top}`, role: "img", "aria-label": all.map((edge) => `${edge.waiter} waits for ${edge.holder}`).join("; ") },
      svg("defs", { "data-key": "defs" }, tip("tip"), tip("refused-tip")),
      all.map((edge) => arrow(edge, at)),
      sessions.map((session) => box(session, at.get(session), inCycle.has(session)))),
    el("p", { class: drawn ? "note bad" : "quiet" }, said,
      known.length > DRAWN_MAX && ` ${known.length - DRAWN_MAX} more sessions are not drawn.`),
  ];
}

export function deadlocksView({ deadlocks, drawn }) {
  const newest = [...(deadlocks?.deadlocks ?? [])].reverse().slice(0, 6);
  if (!newest.length) return null;
  return [
    el("h3", { class: "minor" }, "Deadlocks that were prevented"),
    el("ul", { class: "history" }, newest.map((deadlock) => {
      const isDrawn = drawn?.log_index === deadlock.log_index;
      return el("li", { "data-key": String(deadlock.log_index) },
        el("span", { class: "path" }, [...deadlock.cycle, deadlock.cycle[0]].join(" → ")),
        el("span", { class: "quiet" }, ` for ${deadlock.lock}`),
        button("draw", { index: deadlock.log_index }, isDrawn ? "Drawn" : "Draw", { "aria-pressed": String(isDrawn) }));
    })),
  ];
}
