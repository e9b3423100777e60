// The ring: which node owns which part of all keys, and where the watched keys lie.

import { colours, el, svg } from "./dom.js";

const [MIDDLE, RADIUS, THICK] = [130, 92, 28];

function point(part, radius) {
  const angle = part * 2 * Math.PI - Math.PI / 2;
  return [MIDDLE + Math.cos(angle) * radius, MIDDLE + Math.sin(angle) * radius].map((at) => at.toFixed(2));
}

/** Each node's arcs as one path. An arc ends at its point, and begins where the one before ends. */
function paths({ nodes, arcs }) {
  const drawn = nodes.map(() => []);
  arcs.forEach(([end, owner], at) => {
    const begin = at ? arcs[at - 1][0] : arcs.at(-1)[0] - 1;
    if (end <= begin) return;
    const large = end - begin > 0.5 ? 1 : 0;
    if (end - begin >= 0.99999) {
      drawn[owner].push(`M${point(0, RADIUS)}A${RADIUS} ${RADIUS} 0 1 1 ${point(0.5, RADIUS)}A${RADIUS} ${RADIUS} 0 1 1 ${point(1, RADIUS)}`);
    } else {
      drawn[owner].push(`M${point(begin, RADIUS)}A${RADIUS} ${RADIUS} 0 ${large} 1 ${point(end, RADIUS)}`);
    }
  });
  return drawn.map((arcsOfNode) => arcsOfNode.join(""));
}

function marker({ key, position }) {
  const [x, y] = point(position, RADIUS + THICK / 2 + 9);
  const [lx, ly] = point(position, RADIUS + THICK / 2 + 18);
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
    svg("svg", { viewBox: "-52 4 364 252", role: "img", "aria-label": said },
      paths(ring).map((d, at) => svg("path", { d, class: `arc ${colour.get(ring.nodes[at][0]) ?? "c7"}`, "stroke-width": THICK, "data-key": ring.nodes[at][0] })),
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
