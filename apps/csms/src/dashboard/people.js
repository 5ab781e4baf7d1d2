"use strict";

// A form with data-send ("POST /api/users") is sent as JSON, with the token of the session.
async function send(form) {
  const [method, url] = form.dataset.send.split(" ");
  const body = {};
  for (const field of form.elements) {
    if (field.name && field.value !== "") {
      body[field.name] = "json" in field.dataset ? JSON.parse(field.value) : field.value;
    }
  }
  const me = await (await fetch("/api/me")).json();
  const headers = { "Content-Type": "application/json" };
  if (me.csrfToken) headers["X-CSRF-Token"] = me.csrfToken;
  return fetch(url, { method, headers, body: JSON.stringify(body) });
}

async function submit(form) {
  const note = form.querySelector("output");
  try {
    const reply = await send(form);
    if (!reply.ok) {
      const problem = await reply.json();
      note.textContent = problem.detail || problem.title;
      return;
    }
    const answer = reply.status === 204 ? {} : await reply.json();
    const secret = answer.token || answer.password;
    if (secret) {
      // It is shown once, so the page stays as it is.
      note.textContent = secret;
      note.className = "secret";
      form.reset();
    } else {
      location.assign(form.dataset.then || location.href);
    }
  } catch {
    note.textContent = "the server did not answer";
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.send) return;
  event.preventDefault();
  if (!form.dataset.confirm || confirm(form.dataset.confirm)) submit(form);
});
