// The shell: a tab for each panel, loaded when it is opened first, and the app that they share.

import { App } from "./app.js";
import { showOpened } from "./opened.js";

// A panel's module is panels/NAME.js and its look panels/NAME.css. `beside` stands on the same page.
const PANELS = [
  { name: "network", title: "Network" },
  { name: "rules", title: "Rules" },
  { name: "surface", title: "Surface" },
  { name: "digit", title: "Digit" },
  { name: "lessons", title: "Lessons" },
  { name: "model", title: "Your model" },
  { name: "share", title: "Share" },
];
const BESIDE = { network: ["chain-rule"] };

const tabs = document.querySelector(".tabs");
const main = document.getElementById("main");
const told = document.querySelector(".notice");
const connection = document.querySelector(".connection");
const mounted = new Map();
let shown = null;

let fading;
const app = new App((text, kind = "") => {
  clearTimeout(fading);
  told.textContent = text;
  told.dataset.kind = kind;
  if (text && kind !== "error")
    fading = setTimeout(() => {
      told.textContent = "";
    }, 6000);
});

function build() {
  for (const { name, title } of PANELS) {
    const tab = document.createElement("button");
    Object.assign(tab, { type: "button", id: `tab-${name}`, textContent: title, tabIndex: -1 });
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", `page-${name}`);
    tab.addEventListener("click", () => {
      if (name !== shown) {
        app.setState({ panel: name }, true);
        open(name);
      }
    });
    tabs.append(tab);
    const page = document.createElement("div");
    page.id = `page-${name}`;
    page.className = BESIDE[name] ? "page workbench" : "page";
    page.setAttribute("role", "tabpanel");
    page.setAttribute("aria-labelledby", tab.id);
    page.hidden = true;
    main.append(page);
  }
  tabs.addEventListener("keydown", move);
}

function move(event) {
  const names = PANELS.map((panel) => panel.name);
  const at = names.indexOf(shown);
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const tab = document.getElementById(`tab-${names[(next + names.length) % names.length]}`);
  tab.click();
  tab.focus();
}

/** Show a panel: its tab, its page, the title of the window. */
async function open(name) {
  const panel = PANELS.find((one) => one.name === name) ?? PANELS[0];
  if (shown === panel.name) return;
  for (const part of mounted.get(shown) ?? []) part.hide?.();
  shown = panel.name;
  for (const { name: one } of PANELS) {
    const tab = document.getElementById(`tab-${one}`);
    tab.setAttribute("aria-selected", String(one === shown));
    tab.tabIndex = one === shown ? 0 : -1;
    document.getElementById(`page-${one}`).hidden = one !== shown;
  }
  document.getElementById(`tab-${shown}`).scrollIntoView({ block: "nearest", inline: "nearest" });
  document.title = `${panel.title} · jaxprop explorer`;
  if (!mounted.has(panel.name)) {
    mounted.set(panel.name, []);
    const names = [panel.name, ...(BESIDE[panel.name] ?? [])];
    mounted.set(panel.name, (await Promise.all(names.map((one) => load(one, panel.name)))).filter(Boolean));
  }
  if (shown !== panel.name) return;
  for (const part of mounted.get(panel.name)) {
    part.show?.();
    if (app.frame) part.update?.(app.frame);
  }
}

/** Load a panel's module and its look, and mount it in the page of a tab. */
async function load(name, page) {
  const section = document.createElement("section");
  section.id = name;
  document.getElementById(`page-${page}`).append(section);
  try {
    const [{ default: panel }] = await Promise.all([import(`./panels/${name}.js`), look(name)]);
    section.setAttribute("aria-label", panel.title);
    return panel.mount(section, app) ?? {};
  } catch (error) {
    console.error(error);
    section.className = "placeholder";
    section.textContent = "This panel could not be loaded.";
    return null;
  }
}

function look(name) {
  return new Promise((resolve) => {
    const link = document.createElement("link");
    Object.assign(link, { rel: "stylesheet", href: `panels/${name}.css`, onload: resolve, onerror: resolve });
    document.head.append(link);
  });
}

app.on("frame", (frame) => {
  for (const part of mounted.get(shown) ?? []) part.update?.(frame);
});
app.on("session", ({ frame }) => {
  // A server may answer for some panels alone, and what it opened may be no chain, which the network panel draws.
  for (const { name } of PANELS)
    document.getElementById(`tab-${name}`).hidden =
      Boolean(frame.panels) && name !== "share" && !frame.panels.includes(name);
  if (frame.opened && !frame.opened.chain && !app.state.panel) open("model");
});
app.on("state", (state) => open(state.panel ?? PANELS[0].name));
// What takes longer than a moment, as a first question does while JAX compiles, is said beside the connection.
const MOMENT = 400; // milliseconds
let [state, questions, waiting] = ["closed", 0, null];

function tellConnection(busy) {
  connection.dataset.state = busy ? "busy" : state;
  connection.textContent = busy ? "computing …" : state === "open" ? "connected" : "not connected";
}

app.on("connection", (now) => {
  state = now;
  tellConnection(false);
});
app.on("question", (more) => {
  questions += more;
  clearTimeout(waiting);
  if (questions > 0) waiting = setTimeout(() => tellConnection(true), MOMENT);
  else tellConnection(false);
});

document.getElementById("copy-link").addEventListener("click", async () => {
  app.settle();
  try {
    await navigator.clipboard.writeText(location.href);
    app.notice("The address with the whole state of this page is in the clipboard.");
  } catch {
    app.notice("The browser does not allow this page to use the clipboard: copy the address from its bar.", "error");
  }
});

// In a field for a number a browser drops a comma that is typed, so that 0,5 would be read as 5: it is taken as
// a point.
document.addEventListener("beforeinput", (event) => {
  const typed = event.data ?? "";
  if (event.target.type !== "number" || !/^[^.,]*,[^.,]*$/.test(typed)) return;
  event.preventDefault();
  document.execCommand("insertText", false, typed.replace(",", "."));
});

showOpened(app, main);
build();
// The page is shown before the server has answered, with its space reserved.
await open(app.state.panel ?? PANELS[0].name);
await app.open();
