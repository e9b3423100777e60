// What is kept: lines of the cache, node by node, and the queues.

import { button, el, plural, svg } from "./dom.js";

const MEANING = {
  M: "modified: only this node has it, and it is newer than memory",
  E: "exclusive: only this node has it",
  S: "shared: others may have it too",
  I: "invalid: this node does not have it",
};

function cell(key, node, state, isDown) {
  const buttons = ["read", "write"].map((what) =>
    button(what, { line: key, node }, what === "read" ? "Read" : "Write",
      { class: "small", "aria-label": `${what} ${key} at ${node}`, disabled: isDown, "data-key": what }));
  return el("td", { "data-key": node, "data-label": node },
    el("span", { class: `state ${state ?? "none"}`, title: state ? MEANING[state] : "not in the view", "data-key": `state-${state}` }, state ?? "–"),
    el("span", { class: "acts" }, buttons));
}

export function linesView({ lines, keys, nodes }) {
  if (!keys.length) return el("p", { class: "quiet" }, "No key is watched. Name one below.");
  const known = new Map((lines ?? []).map((line) => [line.key, line]));
  const down = new Set((nodes?.nodes ?? []).filter((node) => !node.status).map((node) => node.id));
  const columns = (nodes?.nodes ?? []).map((node) => node.id);
  return [
    el("table", { class: "lines" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Key"), columns.map((id) => el("th", { scope: "col", "data-key": id }, id)))),
      el("tbody", {}, keys.map((key) => {
        const line = known.get(key)?.line;
        const about = line ? `home ${line.home}${line.version === null ? ", no value" : ""}` : "its home cannot be asked";
        return el("tr", { "data-key": key },
          el("th", { scope: "row" }, el("span", { class: "key" }, key), button("forget", { line: key }, "×", { class: "plain", "aria-label": `Watch ${key} no more` }),
            el("small", { class: "quiet" }, about)),
          columns.map((id) => cell(key, id, line?.states[id], down.has(id))));
      }))),
    el("p", { class: "legend quiet" }, ["M", "E", "S", "I"].map((state) =>
      el("span", {}, el("span", { class: `state ${state} tiny`, "aria-hidden": "true" }, state), ` ${MEANING[state].split(":")[0]} `))),
  ];
}

const KINDS = [["ready", "ready"], ["in_flight", "in flight"], ["delayed", "delayed"], ["dead", "dead"]];

function bar(group) {
  const all = KINDS.reduce((sum, [kind]) => sum + group[kind], 0);
  let x = 0;
  return svg("svg", { class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", width: 100, height: 6 }),
    all > 0 && KINDS.map(([kind]) => {
      const width = (group[kind] / all) * 100;
      x += width;
      return svg("rect", { class: `kind ${kind}`, x: x - width, width, height: 6 });
    }));
}

function topicView(topic) {
  const groups = Object.entries(topic.groups);
  return el("article", { class: "topic", "data-key": topic.topic },
    el("h3", {}, topic.topic, el("small", { class: "quiet" }, ` ${plural(topic.length, "message")}, ${topic.shard}${topic.home ? ` at ${topic.home}` : ""}`)),
    groups.length
      ? groups.map(([name, group]) => el("div", { class: "group", "data-key": name },
        el("span", { class: "name" }, name), bar(group),
        el("span", { class: "counts" }, KINDS.map(([kind, word]) =>
          el("span", { class: group[kind] ? `count ${kind}` : "count none" }, el("b", {}, String(group[kind])), ` ${word}`)))))
      : el("p", { class: "quiet" }, "Nobody has received from it yet."));
}

export function queuesView({ queues }) {
  if (queues === undefined) return el("p", { class: "quiet" }, "Asking …");
  if (queues === null) return el("p", { class: "note" }, "The queues cannot be asked at the moment.");
  if (!queues.topics.length) {
    return [
      el("p", { class: "quiet" }, "There is no topic. The first message makes one:"),
      el("pre", {}, `curl -H 'content-type: application/json' \\\n  -d '{"messages":[{"payload":"hello"}]}' \\\n  ${location.origin}/v1/queues/jobs/messages`),
    ];
  }
  return [
    el("div", { class: "topics" }, queues.topics.map(topicView)),
    queues.count > queues.topics.length && el("p", { class: "quiet" }, `${queues.count - queues.topics.length} more are not shown.`),
  ];
}
