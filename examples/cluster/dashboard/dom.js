// Elements, made from data and brought up to date without losing focus. Text is only ever set as
// text, never parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

export const el = (tag, attributes = {}, ...children) =>
  build(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) =>
  build(document.createElementNS(SVG, tag), attributes, children);

/** A button that has `actions[name]` done with its data. `data-key` is not such data: it tells an
 * element from its neighbours. */
export const button = (name, data, label, more = {}) => {
  const told = Object.fromEntries(Object.entries(data).map(([key, value]) => [`data-${key}`, value]));
  return el("button", { type: "button", "data-do": name, ...told, ...more }, label);
};

function isSame(old, fresh) {
  return old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName
    && (old.nodeType !== Node.ELEMENT_NODE || old.getAttribute("data-key") === fresh.getAttribute("data-key"));
}

function update(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of [...fresh.attributes]) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  show(old, [...fresh.childNodes]);
}

/** Makes `parent` contain what `fresh` says. What is there already stays, and keeps its focus. */
export function show(parent, fresh) {
  const wanted = [fresh].flat(Infinity).filter((child) => child != null && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(child)));
  const keyed = new Map();
  for (const child of parent.children) {
    const key = child.getAttribute("data-key");
    if (key != null) keyed.set(key, child);
  }
  let at = parent.firstChild;
  for (const next of wanted) {
    const key = next.nodeType === Node.ELEMENT_NODE ? next.getAttribute("data-key") : null;
    const known = key != null ? keyed.get(key) : null;
    if (known && known !== at && isSame(known, next)) {
      parent.insertBefore(known, at);
      at = known;
    }
    if (at && isSame(at, next)) {
      update(at, next);
      at = at.nextSibling;
    } else {
      parent.insertBefore(next, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/** The place of each node in the colours of the page: by the order of their names. */
export function colours(names) {
  return new Map([...names].sort().map((name, place) => [name, `c${place % 8}`]));
}

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;
