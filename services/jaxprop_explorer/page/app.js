// What panels share: questions to the server, the stream of events, the state in the address, and the selection.

export class App {
  constructor(notice) {
    this.listeners = {};
    this.notice = notice;
    this.state = read(location.hash);
    this.frame = null;
    this.selected = null;
  }

  // Open a session for the state in the address, and follow its events.
  async open() {
    const opened = await this.post("api/sessions", this.state);
    this.session = opened.session;
    this.receive(opened.frame);
    document.documentElement.dataset.ready = "yes"; // tests wait for it
    this.follow();
  }

  // Ask a panel of the server, "network/step"; what goes wrong is shown and thrown.
  async ask(command, body = {}) {
    return this.post(`api/sessions/${this.session}/${command}`, body);
  }

  async post(address, body) {
    const answer = await fetch(address, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
    });
    const found = await answer.json();
    this.notice(answer.ok ? "" : found.error);
    if (!answer.ok) throw new Error(found.error);
    return found;
  }

  on(event, listener) {
    (this.listeners[event] ??= []).push(listener);
  }

  emit(event, value) {
    for (const listener of this.listeners[event] ?? []) listener(value);
  }

  receive(frame) {
    if (this.frame && frame.version < this.frame.version) return;
    this.frame = frame;
    this.emit("frame", frame);
  }

  select(place) {
    this.selected = place;
    this.setState({ selected: place });
    this.emit("select", place);
  }

  setState(changes) {
    Object.assign(this.state, changes);
    history.replaceState(null, "", `#${encodeURIComponent(JSON.stringify(this.state))}`);
  }

  // Put MathML that Python made into the page.
  math(element, markup) {
    const parsed = new DOMParser().parseFromString(markup, "text/html");
    element.replaceChildren(...parsed.body.childNodes);
  }

  async follow() {
    const answer = await fetch(`api/sessions/${this.session}/events`);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      text += value;
      const events = text.split("\n\n");
      text = events.pop();
      for (const event of events) this.heard(event);
    }
    this.notice("The server has ended this page's session. Load the page again to go on.");
  }

  heard(event) {
    const kind = /^event: (.*)$/m.exec(event)?.[1];
    const data = /^data: (.*)$/m.exec(event)?.[1];
    if (!kind) return;
    const found = JSON.parse(data);
    if (kind === "frame") this.receive(found);
    else if (kind === "notice") this.notice(found.error ?? found.text);
    else this.emit(kind, found);
  }
}

function read(hash) {
  try {
    return JSON.parse(decodeURIComponent(hash.slice(1)));
  } catch {
    return {};
  }
}
