// The nodes: what each says of itself, and what can be done with it.

import { button, colours, el } from "./dom.js";

const COMES = { stopped: ["start", "Start"], isolated: ["heal", "Heal"] };

function groupOf(group) {
  const leads = group.role === "leader";
  const says = `${group.group}: ${group.role} in term ${group.term}, committed ${group.commit_index}`;
  return el("li", { class: `chip ${group.role}`, title: says, "data-key": group.group },
    el("span", { "aria-hidden": "true" }, leads ? "★ " : ""),
    group.group,
    el("span", { class: "unseen" }, ` (${group.role})`));
}

function figures(raft, newest) {
  const behind = newest - raft.applied_index;
  const figure = (name, value, more) => el("div", {}, el("dt", {}, name), el("dd", { class: more }, String(value)));
  return el("dl", { class: "figures" },
    figure("Term", raft.term),
    figure("Last", raft.last_index),
    figure("Committed", raft.commit_index),
    figure("Applied", raft.applied_index, behind > 20 ? "warn" : null));
}

function tools(id, demo) {
  const standing = demo?.[id];
  if (!standing) return null;
  if (standing === "stopping" || standing === "starting") {
    return el("div", { class: "tools" }, button("demo", { node: id, action: "stop" }, `${standing} …`, { disabled: true }));
  }
  const comes = COMES[standing];
  const act = ([action, label], more = {}) =>
    button("demo", { node: id, action }, label, { "aria-label": `${label} ${id}`, "data-key": action, ...more });
  return el("div", { class: "tools" },
    comes && act(comes, { class: "strong" }),
    standing !== "stopped" && act(["stop", "Stop"]),
    standing === "running" && act(["isolate", "Isolate"]));
}

function card(node, newest, colour, demo) {
  const { status } = node;
  const standing = demo?.[node.id];
  const role = status ? status.raft.role : standing === "stopped" ? "stopped" : "away";
  const cut = standing === "isolated";
  return el("article", { class: `card ${role}${cut ? " cut" : ""}`, "data-key": node.id, "aria-labelledby": `node-${node.id}` },
    el("div", { class: "card-head" },
      el("h3", { id: `node-${node.id}` }, el("i", { class: `dot ${colour}` }), node.id),
      el("span", { class: `badge ${cut ? "cut" : role}` }, cut ? `isolated, ${role}` : role)),
    status
      ? [figures(status.raft, newest), el("ul", { class: "groups", "aria-label": "Raft groups" }, status.groups.map(groupOf))]
      : el("p", { class: "quiet still" }, standing === "stopped" ? "It was stopped. The others go on." : "It cannot be reached from here."),
    status?.not_ready && el("p", { class: "note" }, status.not_ready),
    tools(node.id, demo));
}

export function nodesView({ nodes, demo }) {
  if (!nodes) return el("p", { class: "quiet" }, "Asking the nodes …");
  const colour = colours(nodes.nodes.map((node) => node.id));
  const newest = Math.max(0, ...nodes.nodes.map((node) => node.status?.raft.commit_index ?? 0));
  return nodes.nodes.map((node) => card(node, newest, colour.get(node.id), demo));
}

/** The same page on the other nodes. */
export function linksView({ nodes }) {
  return (nodes?.nodes ?? []).map((node) =>
    node.id === nodes.here
      ? el("span", { class: "here", "aria-current": "page" }, node.id)
      // Of one that has just come it is not known yet.
      : el("a", { href: /\/\/./.test(node.url) ? `${node.url}/` : null }, node.id));
}
