// Numbers as people read them. What is not known is a dash.

export const UNKNOWN = "–";

const isKnown = (value) => typeof value === "number" && Number.isFinite(value);

function digits(value) {
  if (value >= 100) return value.toFixed(0);
  if (value >= 10) return value.toFixed(1).replace(/\.0$/, "");
  return value.toFixed(2).replace(/\.?0+$/, "");
}

function scaled(value, step, units) {
  let index = 0;
  // 999.6 would be written as 1000.
  while (value >= step - 0.5 && index < units.length - 1) {
    value /= step;
    index += 1;
  }
  return [value, units[index]];
}

/** A whole number with all its digits, in groups of three. */
export function count(value) {
  // U+2009, a thin space, groups digits the same for every reader.
  return isKnown(value) ? Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, "\u2009") : UNKNOWN;
}

/** A number of which the size counts: 12, 3.4 k, 5.6 M. */
export function short(value) {
  if (!isKnown(value)) return UNKNOWN;
  const [rest, unit] = scaled(value, 1000, ["", "k", "M", "G", "T"]);
  return unit ? `${digits(rest)}\u2009${unit}` : digits(rest);
}

/** Per second. */
export function rate(value) {
  return isKnown(value) ? `${short(value)}/s` : UNKNOWN;
}

/** Bytes, in powers of 1024. */
export function bytes(value) {
  if (!isKnown(value)) return UNKNOWN;
  const [rest, unit] = scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
  return `${unit === "B" ? rest.toFixed(0) : digits(rest)}\u2009${unit}`;
}

/** A time that something takes: 12 ms, 1.3 s, 4 min 5 s, 3 h 20 min, 2 d 4 h. */
export function duration(seconds) {
  if (!isKnown(seconds)) return UNKNOWN;
  if (seconds <= 0) return "0 s";
  if (seconds < 0.0995) return `${digits(seconds * 1000)} ms`.replace(/^(\d+)\.\d+/, seconds < 0.01 ? "$&" : "$1");
  if (seconds < 0.9995) return `${(seconds * 1000).toFixed(0)} ms`;
  if (seconds < 59.95) return `${digits(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return pair(whole, 60, "min", "s");
  if (whole < 86400) return pair(Math.round(whole / 60), 60, "h", "min");
  return pair(Math.round(whole / 3600), 24, "d", "h");
}

function pair(value, step, large, small) {
  const rest = value % step;
  const first = `${Math.floor(value / step)} ${large}`;
  return rest ? `${first} ${rest} ${small}` : first;
}

/** How long ago, without what is too fine to be read while it changes. */
export function ago(seconds) {
  if (!isKnown(seconds)) return UNKNOWN;
  return seconds < 1 ? "now" : `${duration(Math.round(seconds))} ago`;
}

/** A time of the day, of the reader's; the date as well when it was not today. */
export function clock(milliseconds) {
  const date = new Date(milliseconds);
  const time = date.toTimeString().slice(0, 8);
  if (date.toDateString() === new Date().toDateString()) return time;
  const two = (value) => String(value).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`;
}

/** `1 task`, `2 tasks`. */
export function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** A text cut to so many characters. */
export function cut(text, length) {
  const letters = [...text];
  return letters.length > length ? `${letters.slice(0, length - 1).join("")}…` : text;
}
