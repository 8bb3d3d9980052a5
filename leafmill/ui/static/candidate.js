// The candidate's keys: n and p walk through the steps, o unfolds one, r shows texts as they were written, [ and ] go to its neighbours.
// A link to a step or call unfolds what it stands in. Copy buttons: [data-copy] holds a selector of what is copied.
"use strict";

const steps = () => [...document.querySelectorAll("details.step")];

/** The step where the focus is, or else the one that stands highest on the screen. */
function current() {
  const focused = document.activeElement.closest("details.step");
  if (focused) return steps().indexOf(focused);
  const target = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
  return steps().indexOf(target?.closest("details.step"));
}

function goTo(at) {
  const all = steps();
  const step = all[Math.min(Math.max(at, 0), all.length - 1)];
  if (!step) return;
  step.querySelector("summary").focus({ preventScroll: true });
  step.scrollIntoView({ block: "nearest" });
  history.replaceState(null, "", `#${step.id}`);
}

/** Unfold all that what the address names stands in. */
function unfold() {
  const named = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
  if (!named) return;
  for (let around = named.closest("details"); around; around = around.parentElement.closest("details")) around.open = true;
  named.scrollIntoView({ block: "start" });
}

const follow = (selector) => document.querySelector(selector)?.click();

const CANDIDATE_KEYS = {
  n: () => goTo(current() + 1),
  p: () => goTo(current() - 1),
  o: () => { const step = steps()[Math.max(current(), 0)]; if (step) step.open = !step.open; },
  r: () => { const link = document.querySelector("[data-raw]"); if (link) location.assign(link.href + location.hash); },
  "[": () => follow("[data-before]"),
  "]": () => follow("[data-after]"),
};

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || writes(event) || document.querySelector("dialog[open]")) return;
  if (Object.hasOwn(CANDIDATE_KEYS, event.key)) { event.preventDefault(); CANDIDATE_KEYS[event.key](); }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.querySelector(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 1500);
  } catch {
    getSelection().selectAllChildren(source);
  }
});

addEventListener("hashchange", unfold);
document.addEventListener("DOMContentLoaded", unfold);
