"use strict";

const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" };
const buttons = Object.fromEntries(["left", "right", "tie"].map((name) => [name, document.getElementById(name)]));
const subject = document.getElementById("subject");
const status = document.getElementById("status");

let comparison = null;
let votes = 0;

function say(text) {
  status.textContent = text;
}

// A button that is really disabled would lose the focus of whoever votes by keyboard.
function enable(open) {
  for (const button of Object.values(buttons)) button.setAttribute("aria-disabled", String(!open));
}

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(content.detail || `The service answered ${answer.status}.`), { status: answer.status });
  return content;
}

function load(image, address) {
  return new Promise((resolve, reject) => {
    image.onload = resolve;
    image.onerror = () => reject(new Error("A picture could not be loaded. Reload the page."));
    image.src = address;
  });
}

async function show() {
  const next = await post("/rate/next", {});
  subject.hidden = next.label === null;
  subject.textContent = next.label === null ? "" : `Both were asked for class ${next.label}.`;
  await Promise.all(["left", "right"].map((side) => load(buttons[side].querySelector("img"), next[side])));
  comparison = next.comparison;
  enable(true);
}

async function choose(better) {
  if (comparison === null) return;
  const voted = comparison;
  comparison = null;
  enable(false);
  try {
    await post("/rate/vote", { comparison: voted, better });
    votes += 1;
    say(votes === 1 ? "Thank you. 1 vote so far." : `Thank you. ${votes} votes so far.`);
    await show();
  } catch (error) {
    say(error.message);
    if (error.status === 429) {
      comparison = voted; // too fast: the same click works a moment later
      enable(true);
    }
    if (error.status === 409) await show().catch((second) => say(second.message));
  }
}

for (const [better, button] of Object.entries(buttons)) button.addEventListener("click", () => choose(better));
document.addEventListener("keydown", (event) => {
  const better = KEYS[event.key];
  if (better === undefined || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  choose(better);
});
show().then(() => say("Choose one.")).catch((error) => say(error.message));
