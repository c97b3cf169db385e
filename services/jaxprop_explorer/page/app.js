// What panels share: questions to the server, the stream of events, the state in the address, and the selection.

import { read, write } from "./address.js";
import { authorized } from "./token.js";

const ADDRESS_EVERY = 400; // milliseconds: browsers refuse an address that changes more often than some times a second
const GONE = 410; // the status of an answer to a session that has ended

export class App {
  constructor(notice) {
    this.listeners = {};
    this.notice = notice;
    this.state = read(location.hash);
    this.frame = null;
    this.changing = null; // resolves when a change of the network, if one is under way, is here
    this.pictures = new Map(); // what panels offer as files: {title, file, svg() → text, png() → canvas}
    this.selected = this.state.selected ?? null;
    this.opened = new Promise((resolve) => {
      this.isOpen = resolve;
    });
    addEventListener("popstate", () => this.travelled());
    document.addEventListener("visibilitychange", () => this.attend());
    addEventListener("pagehide", () => this.rest(false));
  }

  /** Open a session for the state in the address, and follow its events. */
  async open() {
    this.following?.abort();
    this.farewell = null;
    const opened = await this.begun();
    if (!opened) return;
    this.session = opened.session;
    this.isOpen();
    this.frame = null;
    this.emit("session", opened);
    this.receive(opened.frame);
    document.documentElement.dataset.ready = "yes"; // tests wait for it
    if (this.selected) this.emit("select", this.selected);
    this.follow(this.session);
    this.attend();
  }

  /** Listen while the page is in sight or something moves; else let go, for a browser has six connections in all. */
  attend() {
    const { playing, training } = this.frame ?? {};
    const wanted = !document.hidden || playing || (training && !training.ended);
    if (!this.session || this.farewell || Boolean(wanted) === this.attending) return;
    if (wanted) {
      this.follow(this.session);
    } else {
      this.attending = false;
      this.following.abort();
      this.rest(true);
    }
  }

  /** Tell the server whether the session is to be kept though nobody listens. */
  rest(resting) {
    if (!this.session) return;
    const body = JSON.stringify({ resting });
    const headers = { "content-type": "application/json" };
    authorized(`api/sessions/${this.session}/rest`, { method: "POST", headers, body, keepalive: true }).catch(() => {});
  }

  /** A session: for the state in the address or, if the server refuses that and says why, for none. */
  async begun() {
    try {
      return await this.post("api/sessions", this.state);
    } catch (refusal) {
      this.unmet = this.state;
      try {
        const opened = await this.post("api/sessions", {});
        this.state = { panel: this.state.panel, settings: {} };
        this.selected = null;
        this.notice(`${refusal.message} This page starts without what its address asked for.`, "error");
        return opened;
      } catch {
        this.farewell = refusal.message; // every control says so
        this.isOpen();
        this.emit("connection", "closed");
        return null;
      }
    }
  }

  /** Go back to what the address asked for in vain, now that the table it needs is here. */
  async retry(table) {
    if (!table || this.unmet?.settings?.table !== table) return false;
    this.state = this.unmet;
    this.selected = this.state.selected ?? null;
    this.unmet = null;
    await this.open();
    return true;
  }

  /** Ask a panel of the server, "network/step"; what goes wrong is shown and thrown. */
  async ask(command, body = {}, again = true) {
    await this.opened;
    if (this.farewell) {
      // nobody would answer
      this.notice(this.farewell, "error");
      throw new Error(this.farewell);
    }
    const session = this.session;
    try {
      return await this.post(`api/sessions/${session}/${command}`, body);
    } catch (error) {
      if (error.status !== GONE) throw error;
      if (!again) this.notice(error.message, "error");
      if (!again) throw error;
      // The page was away for long, asleep or in the browser's memory: its address brings the same numbers back.
      if (session === this.session) await (this.opening ??= this.open().finally(() => (this.opening = null)));
      return this.ask(command, body, false);
    }
  }

  /** Ask for another network; `changing` lasts until its frame is here. */
  async change(command, body = {}) {
    const arrived = this.ask(command, body).then((answer) => {
      this.notice(""); // what went wrong before is mended
      this.receive(answer);
      return answer;
    });
    this.changing = arrived.catch(() => {});
    return arrived;
  }

  async post(address, body) {
    let answer;
    this.emit("question", 1);
    try {
      answer = await authorized(address, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
    } catch (error) {
      this.notice(this.farewell ?? "The server does not answer. Is `jaxprop explore` still running?", "error");
      throw error;
    } finally {
      this.emit("question", -1);
    }
    const found = await answer.json();
    if (answer.ok) return found;
    if (answer.status !== GONE) this.notice(found.error, "error");
    throw Object.assign(new Error(found.error), { status: answer.status });
  }

  on(event, listener) {
    (this.listeners[event] ??= []).push(listener);
  }

  emit(event, value) {
    for (const listener of this.listeners[event] ?? []) listener(value);
  }

  /** Take in a frame, unless a newer one is here already. */
  receive(frame) {
    if (this.frame && frame.version < this.frame.version) return;
    this.frame = frame;
    if (this.selected && !holds(frame, this.selected)) this.select(null);
    this.emit("frame", frame);
    // Settings, changes and steps: from them the same θ comes again.
    this.setState(frame.state ?? { steps: frame.step });
  }

  /** Choose a weight, bias or unit, {path: "0.W", index: [1, 0]}, or nothing (null). */
  select(place) {
    this.selected = place;
    this.setState({ selected: place });
    this.emit("select", place);
  }

  /** Change what the address holds; `enter` makes it a place that the back button returns to. */
  setState(changes, enter = false) {
    Object.assign(this.state, changes);
    if (enter) {
      clearTimeout(this.writing);
      this.writing = null;
      const address = this.address();
      if (address !== location.hash) history.pushState(null, "", address);
      return;
    }
    this.writing ??= setTimeout(() => this.settle(), ADDRESS_EVERY);
  }

  /** Write the address now. */
  settle() {
    clearTimeout(this.writing);
    this.writing = null;
    const address = this.address();
    if (address !== location.hash) history.replaceState(null, "", address);
  }

  address() {
    return `#${write(this.state)}`;
  }

  /** The back or forward button, or another address typed into this tab. */
  async travelled() {
    clearTimeout(this.writing);
    this.writing = null;
    const before = this.state;
    this.state = read(location.hash);
    this.selected = this.state.selected ?? null;
    const problem = (state) => write({ settings: state.settings, steps: state.steps, history: state.history });
    if (problem(before) !== problem(this.state)) await this.open();
    else this.emit("select", this.selected);
    this.emit("state", this.state);
  }

  /** Put MathML that Python made into the page. */
  math(element, markup) {
    const parsed = new DOMParser().parseFromString(markup, "text/html");
    element.replaceChildren(...parsed.body.childNodes);
  }

  async follow(session) {
    this.attending = true;
    this.following = new AbortController();
    try {
      const answer = await authorized(`api/sessions/${session}/events`, { signal: this.following.signal });
      if (!answer.ok && session === this.session) {
        await this.open(); // it ended while the page rested: the address brings the same numbers back
        return;
      }
      this.emit("connection", "open");
      await this.listen(answer.body);
    } catch (error) {
      if (error.name === "AbortError") return;
    }
    if (session !== this.session) return;
    this.emit("connection", "closed");
    this.notice(
      this.farewell ?? "The server has ended this page's session. Load the page again to go on from here.",
      "error",
    );
  }

  async listen(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      const events = text.split("\n\n");
      text = events.pop();
      for (const event of events) this.heard(event);
    }
  }

  heard(event) {
    const kind = /^event: (.*)$/m.exec(event)?.[1];
    const data = /^data: (.*)$/m.exec(event)?.[1];
    if (!kind) return;
    const found = JSON.parse(data);
    if (kind === "frame") {
      this.receive(found);
      this.attend();
    } else if (kind === "notice") this.notice(found.error ?? found.text, found.error ? "error" : "");
    else {
      if (kind === "end") this.farewell = found.text;
      this.emit(kind, found);
    }
  }
}

/** Whether the network of a frame has what is chosen: another one may have come in its place. */
function holds({ layers, inputs }, { path, index }) {
  if (path === "x") return index[0] < inputs.values.length;
  for (const layer of layers) {
    const shape = path === layer.path ? [layer.units ?? Infinity] : layer.parameters?.[nameIn(layer, path)];
    if (shape) return index.length > shape.length || index.every((at, k) => at < shape[k]);
  }
  return layers.some((layer) => !layer.parameters);
}

/** What a layer itself calls the parameter at a path, if it is one of its own. */
function nameIn(layer, path) {
  const prefix = layer.path ? `${layer.path}.` : "";
  return path.startsWith(prefix) ? path.slice(prefix.length) : "";
}
