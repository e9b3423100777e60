// The ring: which node owns which part of all keys, and where the watched keys lie.

import { colours, el, svg } from "./dom.js";

const [MIDDLE, RADIUS, THICK] = [130, 84, 20];
const [RIM, RIM_THICK] = [105, 8];

function point(part, radius) {
  const angle = part * 2 * Math.PI - Math.PI / 2;
  return [MIDDLE + Math.cos(angle) * radius, MIDDLE + Math.sin(angle) * radius].map((at) => at.toFixed(2));
}

/** From one part of the ring to another; all of it is two halves. */
function arc(begin, end, radius) {
  if (end - begin > 0.9999) return arc(begin, begin + 0.5, radius) + arc(begin + 0.5, begin + 0.9998, radius);
  const large = end - begin > 0.5 ? 1 : 0;
  return `M${point(begin, radius)}A${radius} ${radius} 0 ${large} 1 ${point(end, radius)}`;
}

/** Inside, how much each node owns; outside, where that lies: neighbouring sectors are one arc. */
function paths({ nodes, sectors }) {
  let begin = 0;
  const drawn = nodes.map(([, share]) => {
    begin += share;
    return [arc(begin - share, begin, RADIUS), ""];
  });
  for (let at = 0, end = 1; at < sectors.length; at = end, end += 1) {
    while (end < sectors.length && sectors[end] === sectors[at]) end += 1;
    drawn[sectors[at]][1] += arc(at / sectors.length, end / sectors.length, RIM);
  }
  return drawn;
}

function marker({ key, position }) {
  const [x, y] = point(position, RIM + RIM_THICK / 2 + 8);
  const [lx, ly] = point(position, RIM + RIM_THICK / 2 + 17);
  const right = Number(lx) >= MIDDLE;
  return svg("g", { class: "marker", "data-key": key },
    svg("circle", { cx: x, cy: y, r: 4 }),
    svg("text", { x: Number(lx) + (right ? 2 : -2), y: Number(ly) + 4, "text-anchor": right ? "start" : "end" },
      key.length > 12 ? `${key.slice(0, 11)}…` : key));
}

export function ringView({ ring, lines, nodes }) {
  if (!ring?.nodes.length) return el("p", { class: "quiet" }, "No node is in the cache's view yet.");
  const colour = colours(nodes?.nodes.map((node) => node.id) ?? ring.nodes.map(([id]) => id));
  const percent = (share) => `${(share * 100).toFixed(1)} %`;
  const said = ring.nodes.map(([id, share]) => `${id} owns ${percent(share)}`).join(", ");
  return el("div", { class: "ring" },
    svg("svg", { viewBox: "-56 4 372 252", role: "img", "aria-label": said },
      paths(ring).map(([own, rim], at) => svg("g", { class: `arc ${colour.get(ring.nodes[at][0]) ?? "c7"}`, "data-key": ring.nodes[at][0] },
        svg("path", { d: own, "stroke-width": THICK }), svg("path", { d: rim, "stroke-width": RIM_THICK }))),
      svg("text", { class: "count", x: MIDDLE, y: MIDDLE + 2, "data-key": "count" }, String(ring.nodes.length)),
      svg("text", { class: "unit", x: MIDDLE, y: MIDDLE + 22, "data-key": "unit" }, ring.nodes.length === 1 ? "node" : "nodes"),
      (lines ?? []).map(marker)),
    el("ul", { class: "shares" }, ring.nodes.map(([id, share]) =>
      el("li", { "data-key": id },
        el("i", { class: `dot ${colour.get(id) ?? "c7"}` }), el("span", {}, id),
        svg("svg", { class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
          svg("rect", { class: "track", width: 100, height: 6 }),
          svg("rect", { class: `fill ${colour.get(id) ?? "c7"}`, width: share * 100, height: 6 })),
        el("span", { class: "number" }, percent(share))))));
}
