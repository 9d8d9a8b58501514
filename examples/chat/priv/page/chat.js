"use strict";

const form = document.getElementById("ask");
const prompt = document.getElementById("prompt");
const send = document.getElementById("send");
const stop = document.getElementById("stop");
const status = document.getElementById("status");
const answers = document.getElementById("answers");
const template = document.getElementById("answer");

let finish = null; // Ends the answer that is being written.

function ask(question) {
  const article = template.content.cloneNode(true).firstElementChild;
  const text = article.querySelector(".text");
  const figures = article.querySelector(".figures");
  article.querySelector("h2").textContent = question;
  article.setAttribute("aria-busy", "true"); // Read out when it is whole, not token by token.
  answers.prepend(article);

  const asked = performance.now();
  let first = 0;
  let count = 0;
  const source = new EventSource("tokens?prompt=" + encodeURIComponent(question));

  source.onmessage = (event) => {
    const now = performance.now();
    count += 1;
    if (count === 1) first = now;
    text.append(JSON.parse(event.data));
    figures.textContent = count + (count === 1 ? " token" : " tokens") +
      ", the first after " + Math.round(first - asked) + " ms" +
      (count > 1 ? ", " + Math.round((count - 1) * 1000 / (now - first)) + " a second" : "");
  };
  // Closing the connection is all that a stop is: Erlang sees it and closes the generator.
  finish = (word, error) => {
    source.close();
    finish = null;
    article.removeAttribute("aria-busy");
    if (error !== undefined) {
      const shown = article.querySelector(".error");
      shown.hidden = false;
      shown.textContent = error;
    }
    status.textContent = word;
    stop.disabled = true;
    send.disabled = false;
    prompt.focus();
  };
  source.addEventListener("done", () => finish("The answer is complete."));
  source.addEventListener("failed", (event) => finish("", event.data));
  // Without this the browser would ask again by itself.
  source.onerror = () => finish("", "The connection was lost.");

  status.textContent = "The model is writing.";
  send.disabled = true;
  stop.disabled = false;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const question = prompt.value.trim();
  if (finish === null && question !== "") ask(question);
});
stop.addEventListener("click", () => finish?.("Stopped."));
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
