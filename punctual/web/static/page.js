"use strict";
// What htmx does not do: ask before a change, say aloud what changed, say when the server does not answer.
const confirmation = document.getElementById("confirmation"), announcement = document.getElementById("announcement");
const said = new Map();

document.addEventListener("htmx:confirm", (event) => {
  const button = event.detail.elt.querySelector("[data-confirm]");
  if (!button) return;
  event.preventDefault();
  const form = new FormData(event.detail.elt), ids = form.getAll("ids");
  if (button.dataset.confirm.includes("{ids}") && !ids.length) return;
  const at = form.get("at") ? ` It is then due at ${form.get("at").replace("T", " ")} UTC.` : "";
  document.getElementById("question").textContent = button.dataset.confirm.replace("{ids}", () => ids.join(", ")) + at;
  confirmation.returnValue = "";
  confirmation.onclose = () => { if (confirmation.returnValue === "yes") event.detail.issueRequest(true); button.focus(); };
  confirmation.showModal();
});

document.addEventListener("htmx:afterSwap", (event) => {
  const part = event.detail.target.closest("section"), text = event.detail.target.querySelector("[data-announce]")?.textContent.trim();
  if (text && said.get(part) !== text) announcement.textContent = text;
  if (text) said.set(part, text);
});

for (const name of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) {
  document.addEventListener(name, (event) => {
    const problem = document.createElement("p");
    problem.className = "problem";
    problem.textContent = event.detail.xhr?.responseText || "punctual web does not answer. Has it ended?";
    event.detail.target.replaceChildren(problem);
    announcement.textContent = problem.textContent;
  });
}

const tick = () => { document.getElementById("clock").textContent = new Date().toISOString().slice(11, 19); };
tick();
setInterval(tick, 1000);
