"use strict";
// What htmx does not do: say aloud what changed, and say when the server does not answer.
const announcement = document.getElementById("announcement");

document.addEventListener("htmx:afterSwap", ({ detail: { target } }) => {
  const text = target.querySelector("[data-announce]")?.textContent.trim();
  if (text && text !== target.dataset.said) announcement.textContent = target.dataset.said = text;
});

for (const name of ["htmx:sendError", "htmx:responseError"]) {
  document.addEventListener(name, ({ detail: { target, xhr } }) => {
    target.textContent = announcement.textContent = xhr.responseText || "punctual web does not answer. Has it ended?";
  });
}
