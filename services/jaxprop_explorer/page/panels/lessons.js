// The lessons panel: lessons with interactions, exercises and a course. All words, numbers and drawings come
// from Python.

import { button, make } from "../draw/elements.js";
import { pictures, table, Widget } from "../draw/widget.js";

export default {
  name: "lessons",
  title: "Lessons",
  mount(element, app) {
    return new Lessons(element, app);
  },
};

class Lessons {
  constructor(element, app) {
    this.app = app;
    this.list = make("nav", { className: "lessons-index", attributes: { "aria-label": "Lessons" } });
    this.text = make("article", { className: "lesson", tabIndex: -1 });
    element.classList.add("lessons");
    element.append(this.list, this.text);
    this.turn = 0;
    app.on("state", () => {
      if (this.ready) this.open(this.state.at ?? "1");
    });
    this.ready = this.start();
  }

  get state() {
    return this.app.state.lessons ?? {};
  }

  ask(command, body) {
    return this.app.ask(`lessons/${command}`, body);
  }

  async start() {
    this.found = await this.ask("index");
    const all = make(
      "details",
      { className: "fold all", open: !matchMedia("(max-width: 60rem)").matches },
      make("summary", {}, "Contents"),
    );
    this.list.append(all);
    all.append(
      button("Course: eight steps", () => this.go("course-1"), { dataset: { at: "course" } }),
      button("Exercises", () => this.go("exercise"), { dataset: { at: "exercise" } }),
      make(
        "p",
        { className: "muted small" },
        "Lessons stand in the order to learn them. Their numbers are those of the article's figures.",
      ),
    );
    for (const chapter of this.found.chapters) {
      const items = chapter.lessons.map((one) =>
        make(
          "li",
          {},
          button("", () => this.go(String(one.number)), { dataset: { at: one.number } }),
        ),
      );
      items.forEach((item, i) =>
        item.firstChild.append(
          make("span", { className: "at" }, String(chapter.lessons[i].number)),
          chapter.lessons[i].title,
        ),
      );
      all.append(
        make(
          "details",
          { className: "fold", open: true },
          make("summary", {}, `${chapter.number}. ${chapter.title}`),
          make("ol", {}, ...items),
        ),
      );
    }
    await this.open(String(this.state.at ?? "1"));
  }

  /**
   * Go to a lesson ("17"), the exercises ("exercise") or a step of the course ("course-3"); the back
   * button returns.
   */
  async go(where) {
    const at = Number(where) || where;
    this.app.setState({ lessons: { ...this.state, at } }, true);
    if (matchMedia("(max-width: 60rem)").matches) this.list.firstChild.open = false;
    await this.open(at);
    this.text.focus({ preventScroll: true });
    this.text.scrollIntoView({ block: "start" });
  }

  keep(changes) {
    this.app.setState({ lessons: { ...this.state, ...changes } });
  }

  async open(at) {
    const turn = ++this.turn;
    this.later = [];
    const where = String(at);
    for (const one of this.list.querySelectorAll("[data-at]")) {
      const here = one.dataset.at === where || (one.dataset.at === "course" && where.startsWith("course"));
      if (here) one.setAttribute("aria-current", "page");
      else one.removeAttribute("aria-current");
    }
    this.text.setAttribute("aria-busy", "true");
    delete this.text.dataset.complete;
    const made =
      where === "exercise"
        ? await this.exercises()
        : where.startsWith("course")
          ? await this.course(Number(where.split("-")[1] ?? 1))
          : await this.lesson(Number(where));
    if (turn !== this.turn) return;
    this.text.replaceChildren(...made);
    this.text.removeAttribute("aria-busy");
    for (const work of this.later) {
      if (turn !== this.turn) return;
      await work().catch(() => {});
    }
    this.text.dataset.complete = "yes"; // tests wait for it
  }

  // ---------------------------------------------------------------- a lesson

  async lesson(number) {
    const found = await this.ask("open", { number });
    const article = Boolean(this.state.article);
    const formulas = make(
      "div",
      { className: "formulas", hidden: !found.has_formulas },
      make("p", { className: "muted" }, "…"),
    );
    const anchors = table([["", "expected", "by the library"], ...found.anchors.map((one) => [...one, "…"])]);
    this.widgets = new Map(found.widgets.map((one) => [one.name, new Widget(this, number, one)]));
    const notation = make(
      "label",
      { className: "check small" },
      make("input", { type: "checkbox", checked: article }),
      "article notation",
    );
    notation.firstChild.addEventListener("change", (event) => {
      this.keep({ article: event.target.checked || undefined });
      this.write(number, formulas).catch(() => {});
    });
    if (found.has_formulas) this.later.push(() => this.write(number, formulas));
    for (const widget of this.widgets.values()) this.later.push(() => widget.first());
    this.later.push(() => this.checked(number, anchors));
    return [
      make("div", { className: "lesson-head" }, make("h2", {}, `${found.number}. ${found.title}`), notation),
      make("blockquote", { className: "quote" }, make("p", {}, found.quote)),
      ...found.paragraphs.map((words) => make("p", {}, words)),
      formulas,
      ...(found.tries.length
        ? [
            make("h3", {}, "Try"),
            make("ul", { className: "tries" }, ...found.tries.map((one) => make("li", {}, this.tried(one)))),
          ]
        : []),
      ...[...this.widgets.values()].map((one) => one.element),
      ...this.mistakes(found.mistakes),
      make("h3", {}, "Numbers to check"),
      anchors,
      ...this.setup(found),
      this.turns(found),
    ];
  }

  async write(number, place) {
    const { formulas } = await this.ask("formulas", { number, article: Boolean(this.state.article) });
    place.replaceChildren(...this.formulas(formulas));
  }

  async checked(number, place) {
    const { anchors } = await this.ask("anchors", { number });
    anchors.forEach((one, i) => {
      place.querySelectorAll("tbody tr")[i].lastChild.textContent = `${one.found} ${one.holds ? "✓" : "✗"}`;
    });
  }

  formulas(formulas) {
    return formulas.map((one) => {
      const place = make("div", { className: "formula" });
      this.app.math(place, one.mathml);
      if (!one.title) return place;
      return make("details", { className: "fold" }, make("summary", {}, one.title), place);
    });
  }

  tried(one) {
    return button(one.label, async () => {
      const widget = this.widgets.get(one.widget);
      await widget.set(one.values);
      widget.element.scrollIntoView({ block: "nearest" });
    });
  }

  mistakes(mistakes) {
    if (!mistakes.length) return [];
    return [
      make("h3", {}, "What the article says, and what is right"),
      ...mistakes.map((one) =>
        make(
          "div",
          { className: "mistake" },
          make("p", { className: "said" }, one.said),
          make("p", { className: "right" }, one.right),
          this.tried(one.try),
        ),
      ),
    ];
  }

  setup(found) {
    const { settings, history, panel, selected, words } = found.setup;
    const told = make("p", { className: "callout", role: "status", hidden: true });
    const set = async () => {
      this.app.setState(
        { settings, history: history.length ? history : undefined, steps: 0, selected: selected ?? undefined },
        true,
      );
      this.app.selected = selected ?? null;
      await this.app.open();
    };
    const settled = (action) => async () => {
      // one after the other: a step goes to the network that was set up
      this.working = (this.working ?? Promise.resolve()).catch(() => {}).then(action);
      await this.working;
    };
    const actions = [];
    if (panel !== "lessons") {
      actions.push(
        button(panel === "network" ? "Set it up and look at it" : `Open the ${panel} panel`, async () => {
          if (Object.keys(settings).length) await set();
          this.app.setState({ panel }, true);
          this.app.emit("state", this.app.state);
        }),
      );
    }
    if (found.number === 20) {
      actions.push(button("Set it up here", settled(set)));
      const follow = (sign) => async () => {
        const answer = await this.ask("follow", { sign });
        this.app.receive(answer.frame);
        told.hidden = false;
        told.textContent = answer.told;
      };
      actions.push(
        button("Step it with the minus", settled(follow("minus"))),
        button("Step it with the article's plus", settled(follow("plus"))),
      );
    }
    return [
      make("h3", {}, "On the page"),
      make("p", {}, words),
      make("div", { className: "actions" }, ...actions),
      told,
    ];
  }

  turns(found) {
    const turn = make("div", { className: "turn" });
    turn.append(found.before ? button(`‹ Lesson ${found.before}`, () => this.go(String(found.before))) : make("span"));
    turn.append(button("Download as HTML", () => this.save(found.number)));
    turn.append(found.after ? button(`Lesson ${found.after} ›`, () => this.go(String(found.after))) : make("span"));
    return turn;
  }

  async save(number) {
    const values = Object.fromEntries([...this.widgets].map(([name, widget]) => [name, widget.values]));
    const { name, html } = await this.ask("save", { number, values });
    const link = make("a", { href: URL.createObjectURL(new Blob([html], { type: "text/html" })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // ---------------------------------------------------------------- exercises

  async exercises() {
    const kind = this.state.kind ?? this.found.kinds[0][0];
    const seed = Number(this.state.seed ?? 1);
    const found = await this.ask("exercise", { kind, seed });
    const chosen = make(
      "select",
      { id: "exercise-kind" },
      ...this.found.kinds.map(([name, title]) => make("option", { value: name, selected: name === kind }, title)),
    );
    chosen.addEventListener("change", () => {
      this.keep({ kind: chosen.value, seed: 1 });
      this.open("exercise");
    });
    const verdict = make("div", { className: "verdict stack", role: "status" });
    const answer = make("input", { id: "exercise-answer", autocomplete: "off", inputMode: "text" });
    const form = make(
      "form",
      {},
      make(
        "div",
        { className: "field" },
        make("label", { htmlFor: answer.id }, "Your answer, such as −0.034, −0,034 or 3/8"),
        answer,
      ),
      make("button", { className: "primary" }, "Check"),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.check(found, answer.value, verdict).catch(() => {});
    });
    const next = () => {
      this.keep({ seed: seed + 1 });
      return this.open("exercise");
    };
    return [
      make("h2", {}, "Exercises"),
      make(
        "p",
        { className: "muted" },
        "A small network, and one number to find. There is no end of them: each number is another network.",
      ),
      make("div", { className: "field wide" }, make("label", { htmlFor: chosen.id }, "Kind"), chosen),
      make("p", {}, make("strong", {}, found.question), make("span", { className: "muted" }, ` (number ${seed})`)),
      pictures(found),
      make(
        "dl",
        { className: "given" },
        ...found.given.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))),
      ),
      form,
      verdict,
      make(
        "div",
        { className: "actions" },
        button("Factor by factor", () => this.apart(found, verdict)),
        button("Show the whole way", () => this.reveal(found, verdict)),
        button("Another one", next),
      ),
    ];
  }

  async check({ kind, seed, factors }, typed, place) {
    const found = await this.ask("check", { kind, seed, answer: typed });
    place.replaceChildren(this.verdict(found));
    if (found.apart) await this.apart({ kind, seed, factors }, place, true);
  }

  verdict(found) {
    const step = found.step ? `Step: ${found.step}. ` : "";
    return make("p", { className: `callout ${found.right ? "good" : "bad"}` }, found.right ? "" : step, found.told);
  }

  /** Ask for the factors one by one; the first wrong one is the step that went wrong. */
  async apart({ kind, seed, factors }, place, keep = false) {
    const told = make("p", { className: "callout", role: "status" });
    const inputs = factors.map((name, i) => make("input", { id: `factor-${i}`, autocomplete: "off" }));
    const form = make(
      "form",
      {},
      ...factors.map((name, i) =>
        make("div", { className: "field", hidden: i > 0 }, make("label", { htmlFor: `factor-${i}` }, name), inputs[i]),
      ),
      make("button", {}, "Check this step"),
    );
    const show = (found) => {
      told.textContent = found.told;
      told.classList.toggle("bad", Boolean(found.step) && found.told.startsWith("The step that went wrong"));
      inputs.forEach((input, i) => {
        input.parentElement.hidden = i > found.done;
      });
      inputs[Math.min(found.done, inputs.length - 1)].focus();
    };
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const answers = inputs
        .filter((input) => !input.parentElement.hidden && input.value.trim())
        .map((input) => input.value);
      this.ask("factors", { kind, seed, answers })
        .then(show)
        .catch(() => {});
    });
    if (!keep) place.replaceChildren();
    place.append(told, form);
    show(await this.ask("factors", { kind, seed, answers: [] }));
  }

  async reveal({ kind, seed }, place) {
    const found = await this.ask("reveal", { kind, seed });
    const way = make("div");
    this.app.math(way, found.way.mathml);
    place.replaceChildren(make("p", { className: "callout" }, `The answer is ${found.answer}.`), way);
  }

  // ---------------------------------------------------------------- the course

  async course(number) {
    const found = await this.ask("course", { number });
    const passed = String(this.state.passed ?? "").padEnd(found.of, "-");
    const progress = make(
      "ol",
      { className: "progress", attributes: { "aria-label": "Steps" } },
      ...this.found.stages.map((title, i) =>
        make(
          "li",
          {},
          button(String(i + 1), () => this.go(`course-${i + 1}`), {
            dataset: { passed: passed[i] === "y" ? "yes" : "no" },
            attributes: {
              "aria-label": `Step ${i + 1}: ${title}${passed[i] === "y" ? ", answered" : ""}`,
              ...(i + 1 === number ? { "aria-current": "step" } : {}),
            },
          }),
        ),
      ),
    );
    if (found.learned) return this.finished(found, progress, passed);
    const verdict = make("div", { className: "verdict stack", role: "status" });
    const on = button(number < found.of ? `Step ${number + 1} ›` : "Finish ›", () => this.go(`course-${number + 1}`), {
      className: "primary",
      hidden: passed[number - 1] !== "y",
    });
    const answer = async (typed) => {
      const told = await this.ask("answer", { number, answer: typed });
      verdict.replaceChildren(this.verdict(told));
      if (!told.right) return;
      const now = String(this.state.passed ?? "").padEnd(found.of, "-");
      this.keep({ passed: now.slice(0, number - 1) + "y" + now.slice(number) });
      on.hidden = false;
      progress.children[number - 1].firstChild.dataset.passed = "yes";
    };
    return [
      make("h2", {}, `Step ${number} of ${found.of}: ${found.title}`),
      progress,
      ...found.paragraphs.map((words) => make("p", {}, words)),
      make("p", { className: "muted" }, "Lessons of this step: "),
      make(
        "ul",
        { className: "tries" },
        ...found.lessons.map((one) =>
          make(
            "li",
            {},
            button(`${one.number}. ${one.title}`, () => this.go(String(one.number))),
          ),
        ),
      ),
      make("h3", {}, "Question"),
      make("p", {}, found.question),
      found.answers
        ? make(
            "div",
            { className: "choices" },
            ...found.answers.map((words, i) => button(words, () => answer(String(i)))),
          )
        : this.typed(answer),
      verdict,
      make("div", { className: "actions" }, on),
      make("p", { className: "small muted" }, "The chapter in full: ", make("code", {}, found.docs)),
    ];
  }

  typed(answer) {
    const input = make("input", { id: "course-answer", autocomplete: "off" });
    const form = make(
      "form",
      {},
      make("div", { className: "field" }, make("label", { htmlFor: input.id }, "Your answer"), input),
      make("button", { className: "primary" }, "Check"),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      answer(input.value).catch(() => {});
    });
    return form;
  }

  finished(found, progress, passed) {
    const right = [...passed].filter((one) => one === "y").length;
    return [
      make("h2", {}, right === found.of ? "That was the course." : `${right} of ${found.of} questions answered`),
      progress,
      make("p", {}, "What there was to learn:"),
      make(
        "ol",
        {},
        ...found.learned.map(([title, words, docs]) =>
          make("li", {}, make("strong", {}, `${title}. `), words, " ", make("code", { className: "muted" }, docs)),
        ),
      ),
      make(
        "div",
        { className: "actions" },
        button("Go on with the exercises", () => this.go("exercise"), { className: "primary" }),
      ),
    ];
  }

  update() {}

  show() {}

  hide() {}
}
