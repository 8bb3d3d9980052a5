// The page `review`: decisions by key, and the next candidate without loading the page anew. Without this script its forms do the same.
"use strict";

const main = () => document.getElementById("main");
const review = () => document.getElementById("review");
const reject = () => document.querySelector(".reject");
const going = { on: false };

/** Show what the server answered in place of the page's main part, and stand at the top of it. */
function show(html, address) {
  htmx.swap("#main", html, { swapStyle: "outerHTML", swapDelay: 0, settleDelay: 0 }, { select: "#main" });
  if (address) history.replaceState(null, "", address);
  window.scrollTo(0, 0);
  stand();
}

/** Put the focus where keys and readers of screens begin: the edit that is open, else the candidate. */
function stand() {
  const edit = document.querySelector("#edit[open]");
  const place = edit ? document.getElementById("edit-answer") : document.querySelector("#case") ?? document.querySelector("#review h1");
  place?.focus({ preventScroll: !edit });
}

/** Send a form as the browser would, and show what comes. One at a time: a key that is pressed twice decides once. */
async function send(form, button) {
  if (going.on) return;
  going.on = true;
  review().classList.add("going");
  try {
    const body = new URLSearchParams(new FormData(form, button));
    const answer = await fetch(form.action, { method: "POST", body, headers: { Accept: "text/html" } });
    show(await answer.text(), answer.redirected ? answer.url : null);
  } catch {
    document.getElementById("notices").replaceChildren(document.getElementById("unanswered").content.cloneNode(true));
  } finally {
    going.on = false;
    review()?.classList.remove("going");
  }
}

/** Open the edit, and stand in the answer. */
function edit() {
  const place = document.getElementById("edit");
  if (!place) return;
  place.open = true;
  document.getElementById("edit-answer").focus();
  place.scrollIntoView({ block: "start" });
}

/** Open or close the reasons for a rejection. */
function reasons() {
  const place = reject();
  if (!place) return;
  place.open = !place.open;
  if (place.open) place.querySelector("[data-reason]").focus();
}

/** What a digit means: a reason while they are open, else one of several answers. */
function digit(number) {
  const open = reject()?.open;
  document.querySelector(open ? `[data-reason="${number}"]` : `[data-take="${number}"]`)?.click();
}

const DONE = { e: edit, r: reasons };

document.addEventListener("keydown", (event) => {
  const at = event.target;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && at.closest("#edit")) {
    event.preventDefault();
    at.form.requestSubmit();
    return;
  }
  if (event.key === "Escape" && reject()?.open) reject().open = false;
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || at.matches("textarea, input, select")) return;
  if (document.querySelector("dialog[open]")) return;
  if (/^[1-9]$/.test(event.key)) {
    event.preventDefault();
    digit(event.key);
  } else if (/^[a-z]$/.test(event.key)) {
    const button = document.querySelector(`#review [data-key="${event.key}"]`);
    if (!button) return;
    event.preventDefault();
    if (DONE[event.key]) DONE[event.key]();
    else button.click();
  }
});

document.addEventListener("submit", (event) => {
  if (!event.target.matches("form[data-send]")) return;
  event.preventDefault();
  send(event.target, event.submitter);
});

document.addEventListener("click", (event) => {
  if (event.target.closest('a[data-key="e"]')) {
    event.preventDefault();
    edit();
  } else if (reject()?.open && !event.target.closest(".reject")) {
    reject().open = false;
  }
});

/** Tell the server something that needs no answer. */
function tell(address, query = "") {
  const body = new URLSearchParams({ csrf: document.querySelector("#review [name=csrf]").value });
  navigator.sendBeacon(address + query, body);
}

// Who reads or writes for long keeps the candidate; who leaves lets it go.
setInterval(() => {
  const address = review()?.dataset.claim;
  if (address && !document.hidden) tell(address);
}, 4 * 60 * 1000);
addEventListener("pagehide", () => {
  const { release, until } = review()?.dataset ?? {};
  if (release) tell(release, `?until=${until}`);
});

stand();
