// Requests to a server that asks for a token, such as the model server: the page asks the reader for it, once a tab.

const KEY = "jaxprop-token"; // in sessionStorage: it is gone with the tab, and no other site sees it
let asking = null;

/** fetch, with the token if there is one; it is asked for when the server answers 401. */
export async function authorized(address, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(KEY);
    const headers = token ? { ...options.headers, authorization: `Bearer ${token}` } : options.headers;
    const answer = await fetch(address, { ...options, headers });
    if (answer.status !== 401) return answer;
    asking ??= ask(token !== null).finally(() => {
      asking = null;
    });
    await asking;
  }
}

function ask(again) {
  const dialog = document.createElement("dialog");
  dialog.className = "token";
  const form = document.createElement("form");
  form.method = "dialog";
  const words = document.createElement("p");
  words.textContent = again
    ? "The server does not take this token. Which is the right one?"
    : "This server answers to those who have its token.";
  const label = document.createElement("label");
  label.textContent = "Token ";
  const input = document.createElement("input");
  Object.assign(input, { type: "password", name: "token", required: true, autocomplete: "off" });
  label.append(input);
  const go = document.createElement("button");
  Object.assign(go, { type: "submit", className: "primary", textContent: "Use it" });
  form.append(words, label, go);
  dialog.append(form);
  document.body.append(dialog);
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, input.value.trim());
      dialog.remove();
      resolve();
    });
  });
}
