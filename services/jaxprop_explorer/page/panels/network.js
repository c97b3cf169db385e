// The network panel: the network, and the buttons that train it.

export default {
  name: "network",
  title: "Network",
  mount(element, app) {
    const step = document.createElement("button");
    step.textContent = "Step";
    step.addEventListener("click", () => app.ask("network/step"));
    const told = document.createElement("p");
    element.append(step, told);
    return {
      update(frame) { told.textContent = `step ${frame.step}, cost ${frame.cost}`; },
      show() {},
      hide() {},
    };
  },
};
