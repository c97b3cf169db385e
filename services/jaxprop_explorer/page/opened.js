// What was opened, if the page did not make its network itself: a saved model, a served one, or a training that is
// watched, which can be held and go on. A bar above every panel says so, and controls that do not apply are left out.

/** Put the bar into the page before `place`; it appears with the first frame that says what was opened. */
export function showOpened(app, place) {
  const bar = document.createElement("aside");
  bar.className = "opened";
  bar.hidden = true;
  bar.setAttribute("aria-label", "What was opened");
  const told = Object.assign(document.createElement("p"), { className: "number" });
  const hold = Object.assign(document.createElement("button"), { type: "button", className: "small", hidden: true });
  bar.append(told, hold);
  place.before(bar);
  let held = false;
  const update = (frame) => {
    const { opened, training } = frame;
    document.documentElement.dataset.opened = !opened ? "no" : opened.fixed ? "fixed" : "own";
    bar.hidden = !opened;
    if (!opened) return;
    const how = opened.fixed ? "as it is served" : "opened from its folder";
    told.textContent = training ? words(training) : `${opened.name}, ${how}`;
    hold.hidden = !training;
    if (!training) return;
    held = training.held;
    hold.textContent = held ? "Go on training" : "Hold training";
    hold.disabled = training.ended;
  };
  hold.addEventListener("click", async () => {
    try {
      const training = await app.ask("model/hold", { held: !held });
      update({ ...app.frame, training });
    } catch {
      // The notice says why.
    }
  });
  app.on("frame", update);
}

function words({ steps, epochs, of_epochs: of, held, ended, row }) {
  const state = ended ? "Training has ended" : held ? "Training is held" : "Training";
  const last = row ? ` · last ${row}` : "";
  const [step, epoch, most] = [steps, epochs, of].map((count) => count.toLocaleString("en"));
  return `${state}: step ${step}, ${epoch} of ${most} epochs${last}`;
}
