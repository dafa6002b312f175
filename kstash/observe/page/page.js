// The page: asks every two seconds, and has each part draw the answers.

import { h, morph } from "./dom.js";
import { UNKNOWN, clock, cut, duration } from "./format.js";
import { INTERVAL_MS, TokenError, poll, token } from "./poll.js";
import { SECTIONS } from "./sections.js";
import { Memory, view } from "./view.js";

const $ = (id) => document.getElementById(id);
const memory = new Memory();
const page = { answer: null, answered: null, trouble: null, isAsking: false, isDue: false };

function build() {
  for (const { id, title } of SECTIONS) {
    $("sections").append(h("a", { href: `#${id}` }, title));
    $("main").append(
      h(
        "section",
        { id, "aria-labelledby": `${id}-title` },
        h("h2", { id: `${id}-title` }, title),
        h("div", { class: "body" }, h("p", { class: "soft" }, "Waiting for the first answer.")),
      ),
    );
  }
}

/** For parts whose own state has changed: draw again, once a frame at most. */
function redraw() {
  if (page.isDue) return;
  page.isDue = true;
  requestAnimationFrame(() => {
    page.isDue = false;
    draw();
  });
}

function draw() {
  if (page.answer === null) return;
  const seen = view(page.answer.workers, page.answer.topology, memory, page.answered);
  seen.width = $("main").clientWidth;
  seen.redraw = redraw;
  for (const section of SECTIONS) {
    const body = $(section.id).querySelector(".body");
    morph(body, h("div", { class: "body" }, drawn(section, seen)));
    $(section.id).hidden = body.childNodes.length === 0;
  }
  for (const box of document.querySelectorAll(".scroll")) {
    // The keyboard must reach boxes that scroll, and should stop at no others.
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
  head(seen);
}

function drawn(section, seen) {
  try {
    return section.draw(seen);
  } catch (error) {
    console.error(error);
    return h("p", { class: "bad" }, `This part cannot be drawn: ${error.message}`);
  }
}

function head(seen) {
  text("application", seen.application);
  text("state", seen.state.text);
  $("state").className = `state ${seen.state.kind}`;
  const versions = seen.versions.length > 0 ? `kstash ${seen.versions.join(", ")}` : null;
  text("facts", [seen.guarantee, versions, `as of ${clock(page.answered)}`].filter(Boolean).join(" · "));
  document.title = `${cut(seen.application, 60)} · ${seen.state.text} · kstash`;
}

/** Set a text only where it changes: a screen reader reads out what is set. */
function text(id, value) {
  if ($(id).textContent !== value) $(id).textContent = value;
}

/** Show why the page is not up to date, or that it is. */
function notice() {
  const silent = page.trouble !== null;
  document.documentElement.classList.toggle("is-stale", silent && page.answered !== null);
  $("stale").hidden = !silent;
  if (silent) {
    const since = page.answered === null ? "" : ` for ${duration(Math.round((Date.now() - page.answered) / 1000))}`;
    const shown = page.answered === null ? "" : ` What is shown was so at ${clock(page.answered)}.`;
    text(
      "stale",
      `No answer from ${location.host || UNKNOWN}${since}: ${page.trouble}.${shown} It is asked again every ${INTERVAL_MS / 1000} s.`,
    );
  }
  const problems = silent ? [] : (page.answer?.problems ?? []);
  $("problems").hidden = problems.length === 0;
  text("problems", problems.length > 0 ? `Not well: ${problems.join("; ")}.` : "");
}

async function turn() {
  if (page.isAsking || document.hidden || !$("access").hidden) return;
  page.isAsking = true;
  try {
    page.answer = await poll();
    page.answered = Date.now();
    page.trouble = null;
    draw();
  } catch (error) {
    if (error instanceof TokenError) askForToken();
    else page.trouble = error.message;
  } finally {
    page.isAsking = false;
  }
  notice();
}

function askForToken() {
  const isRefused = token.get() !== null;
  token.set(null);
  page.trouble = null;
  lock(true);
  text("refused", isRefused ? "The server refused this token." : "");
  $("token").focus();
}

/** Show the field for the token, or the page. */
function lock(isLocked) {
  document.documentElement.classList.toggle("is-locked", isLocked);
  $("access").hidden = !isLocked;
  $("forget").hidden = $("bearer").hidden = isLocked;
}

function listen() {
  $("access").addEventListener("submit", (event) => {
    event.preventDefault();
    token.set($("token").value.trim());
    $("token").value = "";
    lock(false);
    text("refused", "");
    turn();
  });
  $("forget").addEventListener("click", () => {
    token.set(null);
    location.reload(); // nothing that the page showed may stay
  });
  $("forget").hidden = $("bearer").hidden = token.get() === null;
  document.addEventListener("visibilitychange", turn);
  new ResizeObserver(redraw).observe($("main"));
  setInterval(turn, INTERVAL_MS);
  setInterval(notice, 1000);
}

build();
listen();
turn();
