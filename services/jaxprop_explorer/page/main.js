// The shell: one tab for each panel, and the app that they share.
import { App } from "./app.js";
import network from "./panels/network.js";

const PANELS = [network];
const notice = document.getElementById("notice");
const app = new App((text) => { notice.textContent = text; });

for (const panel of PANELS) {
  const section = document.createElement("section");
  section.id = panel.name;
  section.setAttribute("aria-label", panel.title);
  document.getElementById("panels").append(section);
  const mounted = panel.mount(section, app);
  app.on("frame", (frame) => mounted.update(frame));
}
app.open();
