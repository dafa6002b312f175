// Elements are made here and nowhere else. Texts become text nodes: names of topics, workers and
// errors come from others, so that none of them is ever read as markup.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

/**
 * An HTML element.
 * @param {string} name
 * @param {Object} attributes false, null and undefined leave one out; true is the empty string;
 *   a function becomes a property, as `onclick`
 * @param {...(Node|string|number|null|Array)} children
 */
export function h(name, attributes, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** An SVG element; arguments as of `h`. */
export function s(name, attributes, ...children) {
  return filled(document.createElementNS(SVG_NAMESPACE, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, String(value));
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** A table cell of a number, aligned as numbers are. */
export function number(text, attributes = {}) {
  const classes = ["number", attributes.class].filter(Boolean).join(" ");
  return h("td", { ...attributes, class: classes }, text);
}

/** A box that scrolls sideways by itself, so that the page never does. */
export function scroll(label, ...children) {
  return h("div", { class: "scroll", role: "region", "aria-label": label }, ...children);
}

/**
 * A table in such a box.
 * @param {string} label for people who do not see it
 * @param {Array<[string, Object?]>} columns the head of each, and its attributes
 * @param {...(Node|Array)} bodies
 */
export function table(label, columns, ...bodies) {
  const heads = columns.map(([title, attributes]) => h("th", { scope: "col", ...attributes }, title));
  return scroll(label, h("table", null, h("thead", null, h("tr", null, heads)), bodies));
}

// What a reader of the page has changed stays as it is.
const OF_THE_READER = new Set(["open", "tabindex"]);
const PROPERTIES = ["onclick", "onpointermove", "onpointerleave"];

/**
 * Make one tree equal to another and change nothing else, so that the focus, the selection and the
 * scrolled places stay when the numbers change.
 * @param {Element} current the tree on the page
 * @param {Element} next of the same kind; used up
 */
export function morph(current, next) {
  for (const { name } of [...current.attributes]) {
    if (!next.hasAttribute(name) && !OF_THE_READER.has(name)) current.removeAttribute(name);
  }
  for (const { name, value } of [...next.attributes]) {
    if (current.getAttribute(name) !== value && !OF_THE_READER.has(name)) {
      current.setAttribute(name, value);
    }
  }
  for (const name of PROPERTIES) {
    if (current[name] !== next[name]) current[name] = next[name];
  }
  const olds = [...current.childNodes];
  const news = [...next.childNodes];
  news.forEach((child, index) => {
    const old = olds[index];
    if (old === undefined) current.append(child);
    else if (old.nodeName !== child.nodeName) old.replaceWith(child);
    else if (child.nodeType === Node.TEXT_NODE) {
      if (old.data !== child.data) old.data = child.data;
    } else morph(old, child);
  });
  for (const old of olds.slice(news.length)) old.remove();
}
