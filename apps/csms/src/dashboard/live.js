"use strict";

const main = document.getElementById("live");
const link = document.getElementById("link");

function say(state, text) {
  link.dataset.state = state;
  link.textContent = text;
}

function listen() {
  const source = new EventSource("/live");
  source.addEventListener("view", (event) => {
    say("live", "live");
    // Someone who is about to answer a question keeps it in front of him.
    if (!main.querySelector("[data-asking]")) main.innerHTML = event.data;
  });
  source.addEventListener("over", () => {
    source.close();
    location.assign("/login");
  });
  source.onerror = () => {
    say("lost", "reconnecting…");
    // What was refused is not tried again by the browser itself.
    if (source.readyState === EventSource.CLOSED) setTimeout(again, 3000);
  };
}

async function again() {
  const me = await fetch("/api/me").catch(() => null);
  if (me && me.status === 401) location.assign("/login");
  else listen();
}

// A person says what became of an effect in doubt, or what to do with what is parked: the first press asks, the second
// one says it.
async function answer(button) {
  if (!button.dataset.asking) {
    button.dataset.asking = "yes";
    button.textContent = button.dataset.confirm;
    setTimeout(() => {
      delete button.dataset.asking;
      button.textContent = button.dataset.label;
    }, 6000);
    return;
  }
  const card = button.closest("article");
  const note = card.querySelector("[data-note]");
  const headers = { "Content-Type": "application/json" };
  try {
    const me = await (await fetch("/api/me")).json();
    if (me.csrfToken) headers["X-CSRF-Token"] = me.csrfToken;
    const reply = await fetch(button.dataset.url, {
      method: "POST",
      headers,
      body: button.dataset.body,
    });
    const problem = reply.ok ? null : await reply.json();
    note.textContent = problem ? problem.detail || problem.title : "recorded";
  } catch {
    note.textContent = "the server did not answer, nothing was recorded";
  }
  delete button.dataset.asking;
  button.textContent = button.dataset.label;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-body]");
  if (button) answer(button);
});

listen();
