
// Fetches the page every 10 seconds and replaces the parts that have changed. Open details, focus and scroll position
// stay.
"use strict";
const EVERY = 10_000;
const pause = document.getElementById("pause");
const summary = document.getElementById("summary");

pause.hidden = false;
pause.addEventListener("click", () => {
  const paused = pause.getAttribute("aria-pressed") !== "true";
  pause.setAttribute("aria-pressed", String(paused));
});

// A screen reader announces the summary when its text changes, so set it only if it differs.
function say(text) {
  if (summary.textContent !== text) summary.textContent = text;
}

function keepUnfolded(from, to) {
  for (const details of from.querySelectorAll("details[open]")) {
    const same = [...to.querySelectorAll("details")].find((other) => other.id === details.id);
    if (same) same.open = true;
  }
}

function put(old, next) {
  if (!next || old.innerHTML === next.innerHTML) return;
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const details = focused && focused.closest("details");
  keepUnfolded(old, next);
  if (old.innerHTML === next.innerHTML) return;
  old.replaceChildren(...document.adoptNode(next).childNodes);
  if (!focused) return;
  const again = (details && document.getElementById(details.id)?.querySelector("summary")) || old;
  again.focus({ preventScroll: true });
}

// Replaces each article separately, so that a change of one pipeline does not touch the others.
function putAll(next) {
  const ids = (root) => [...root.querySelectorAll("article")].map((article) => article.id).join(" ");
  const [old, main] = [document.getElementById("pipelines"), next.getElementById("pipelines")];
  if (ids(old) !== ids(main)) return put(old, main);
  for (const article of old.querySelectorAll("article")) {
    const other = next.getElementById(article.id);
    article.className = other.className;
    put(article, other);
  }
}

async function update() {
  if (document.hidden || pause.getAttribute("aria-pressed") === "true") return;
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    say(next.getElementById("summary").textContent);
    put(document.getElementById("as-of"), next.getElementById("as-of"));
    put(document.getElementById("pages"), next.getElementById("pages"));
    putAll(next);
  } catch {
    say("The operator does not answer; the page below is old. Has the port-forward ended?");
  }
}

setInterval(update, EVERY);
document.addEventListener("visibilitychange", update);
