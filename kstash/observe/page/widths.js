// Widths of texts in pixels, for the layout of drawings; fonts as in page.css.

const KEPT_MAX = 2000;
const pen = document.createElement("canvas").getContext("2d");
const known = new Map();

function width(text, font) {
  const key = `${font} ${text}`;
  if (!known.has(key)) {
    if (known.size >= KEPT_MAX) known.clear();
    pen.font = font;
    known.set(key, Math.ceil(pen.measureText(text).width));
  }
  return known.get(key);
}

/** Of a name in the font of names. */
export function code(text, size = 12) {
  return width(text, `${size}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace`);
}

/** Of a text in the font of the page. */
export function plain(text, size = 12) {
  return width(text, `${size}px system-ui, sans-serif`);
}
