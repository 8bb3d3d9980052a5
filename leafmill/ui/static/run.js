// The page of a run: it hears of changes and asks for its parts again. What is closed stays closed and is not asked for; the contents show
// where one is.
"use strict";

const stream = {
  source: null,

  /** Hear of the run as long as it goes on and the page is looked at: a browser has few connections to one server, for all its tabs. */
  listen() {
    const address = document.getElementById("run").dataset.events;
    if (stream.source || !address || document.hidden) return;
    stream.source = new EventSource(address);
    stream.source.addEventListener("changed", renew);
    stream.source.addEventListener("ended", () => { stream.close(); htmx.trigger("#whole", "renew"); });
  },

  close() {
    stream.source?.close();
    stream.source = null;
  },
};

/** Ask again for what is open; for the whole page, while the run is being taken up. */
function renew() {
  if ("building" in document.getElementById("run").dataset) { htmx.trigger("#whole", "renew"); return; }
  for (const part of document.querySelectorAll(".part")) if (fold(part)?.open ?? true) htmx.trigger(part, "renew");
}

/** The <details> of a part; the head has none. */
function fold(part) {
  return part.querySelector(":scope > details");
}

// A <details> is opened and closed by its reader alone.
const changed = Idiomorph.defaults.callbacks.beforeAttributeUpdated;
Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node, kind) =>
  name === "open" && node.localName === "details" ? false : changed(name, node, kind);

// What was opened may have been left out while it was closed.
document.addEventListener("toggle", (event) => {
  const part = event.target.closest(".part");
  if (part && stream.source && event.target === fold(part) && event.target.open) htmx.trigger(part, "renew");
}, true);

/** Mark the part that is read in the contents. */
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) target.toggleAttribute("data-seen", isIntersecting);
  const first = document.querySelector(".part[data-seen]:not(#head)");
  for (const link of document.querySelectorAll(".contents a")) {
    if (link.hash === `#${first?.id}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}, { rootMargin: "-25% 0px -55% 0px" });

/** How high the bar is, below which the contents stay. */
function measure() {
  document.documentElement.style.setProperty("--bar", `${document.querySelector("header.bar").offsetHeight}px`);
}

document.addEventListener("DOMContentLoaded", () => {
  measure();
  document.querySelectorAll(".part").forEach((part) => seen.observe(part));
  stream.listen();
});
document.addEventListener("visibilitychange", () => (document.hidden ? stream.close() : stream.listen()));
addEventListener("pagehide", stream.close);
addEventListener("pageshow", (event) => { if (event.persisted) stream.listen(); });
addEventListener("resize", measure);
