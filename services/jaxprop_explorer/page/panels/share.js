// The share panel: the address that holds the whole state, pictures as SVG and PNG, and the chosen derivation in
// every form.

import { keep } from "../draw/picture.js";

const MARKUP = `
<div class="panel-head"><h2>Share</h2></div>
<div class="columns">
  <section class="stack">
    <h3>This page as a link</h3>
    <p class="muted">The address holds the settings, every change and the number of steps. Who opens it on their own
      machine with <code>jaxprop explore</code> sees the same numbers, to the last digit.</p>
    <textarea class="share-address" rows="5" readonly aria-label="The address of this page"></textarea>
    <div class="actions"><button type="button" class="primary share-copy">Copy link</button></div>
    <p class="muted small">After the <code>#</code> stand plain <code>key=value</code> pairs: you can change them
      by hand.</p>
  </section>
  <section class="stack">
    <h3>Pictures</h3>
    <p class="muted">What the panels show now, as files that need nothing else.</p>
    <p class="share-none muted">No panel has drawn one yet: open Network first, for example.</p>
    <div class="share-pictures stack"></div>
  </section>
  <section class="stack">
    <h3>The derivation</h3>
    <p class="share-chosen muted"></p>
    <div class="actions share-forms"></div>
    <pre class="share-text" tabindex="0" aria-label="The derivation" hidden></pre>
    <div class="actions"><button type="button" class="share-copy-text" hidden>Copy</button>
      <button type="button" class="share-keep" hidden>Save as a file</button></div>
  </section>
</div>`;

const FORMS = [
  { form: "latex", text: "LaTeX", type: "text/x-tex" },
  { form: "mathml", text: "MathML", type: "application/mathml+xml" },
  { form: "json", text: "JSON", type: "application/json" },
  { form: "html", text: "HTML page", type: "text/html" },
];

export default {
  name: "share",
  title: "Share",
  mount(element, app) {
    element.append(...new DOMParser().parseFromString(MARKUP, "text/html").body.childNodes);
    const find = (selector) => element.querySelector(selector);
    let kept = null;

    async function copy(text, what) {
      try {
        await navigator.clipboard.writeText(text);
        app.notice(`${what} is in the clipboard.`);
      } catch {
        app.notice("The browser does not allow this page to use the clipboard: choose the text and copy it.", "error");
      }
    }

    async function write(form) {
      const place = app.selected;
      const { name, text } = await app.ask("chain-rule/derivation", { ...place, form: form.form });
      kept = { file: name, content: text, type: form.type };
      const shown = find(".share-text");
      shown.textContent = kept.content.length > 20_000 ? `${kept.content.slice(0, 20_000)}\n…` : kept.content;
      for (const part of [shown, find(".share-copy-text"), find(".share-keep")]) part.hidden = false;
    }

    for (const form of FORMS) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: form.text });
      button.addEventListener("click", () => write(form).catch(() => {}));
      find(".share-forms").append(button);
    }
    find(".share-copy").addEventListener("click", () =>
      copy(location.href, "The address with the whole state of this page"),
    );
    find(".share-copy-text").addEventListener("click", () => copy(kept.content, "The derivation"));
    find(".share-keep").addEventListener("click", () => keep(kept.file, kept.content, kept.type));

    function pictures() {
      find(".share-none").hidden = app.pictures.size > 0;
      find(".share-pictures").replaceChildren(
        ...[...app.pictures.values()].map((picture) => {
          const row = document.createElement("div");
          row.className = "share-picture";
          const name = document.createElement("span");
          name.textContent = picture.title;
          row.append(name);
          for (const kind of ["svg", "png"]) {
            if (!picture[kind]) continue;
            const button = Object.assign(document.createElement("button"), {
              type: "button",
              textContent: kind.toUpperCase(),
            });
            button.setAttribute("aria-label", `${picture.title} as ${kind.toUpperCase()}`);
            button.addEventListener("click", () => keep(`${picture.file}.${kind}`, picture[kind](), "image/svg+xml"));
            row.append(button);
          }
          return row;
        }),
      );
    }

    function chosen() {
      const place = app.selected;
      find(".share-chosen").textContent = place
        ? `Of ${place.path}[${place.index.join(", ")}], which is chosen in the network.`
        : "Choose a weight, a bias or a unit in the network first.";
      for (const button of find(".share-forms").children) button.disabled = !place;
    }

    function update() {
      app.settle();
      const address = find(".share-address");
      if (address.value !== location.href) address.value = location.href;
      chosen();
    }

    app.on("select", chosen);
    return {
      update,
      show() {
        pictures();
        update();
      },
      hide() {},
    };
  },
};
