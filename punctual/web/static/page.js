"use strict";
// What htmx does not do: name what is chosen in a question, say aloud what changed, say when the server does not answer.
const announcement = document.getElementById("announcement");

document.addEventListener("htmx:confirm", (event) => {
  const { elt, question, issueRequest } = event.detail;
  if (!question) return;
  event.preventDefault();
  const form = new FormData(elt), ids = form.getAll("ids"), at = form.get("at")?.replace("T", " ");
  if (question.includes("{ids}") && !ids.length) return;
  const due = at ? ` It is then due at ${at} UTC.` : "";
  if (confirm(question.replace("{ids}", () => ids.join(", ")) + due)) issueRequest(true);
});

document.addEventListener("htmx:afterSwap", ({ detail: { target } }) => {
  const text = target.querySelector("[data-announce]")?.textContent.trim();
  if (text && text !== target.dataset.said) announcement.textContent = target.dataset.said = text;
});

for (const name of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) {
  document.addEventListener(name, ({ detail: { target, xhr } }) => {
    target.textContent = announcement.textContent = xhr.responseText || "punctual web does not answer. Has it ended?";
  });
}
