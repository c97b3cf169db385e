// Elements of the page, made in one call.

/** An element with properties, data-, aria- and other attributes, and children. */
export function make(tag, properties = {}, ...children) {
  const { aria, dataset, attributes, ...own } = properties;
  const element = Object.assign(document.createElement(tag), own);
  Object.assign(element.dataset, dataset ?? {});
  for (const [name, value] of Object.entries(aria ?? {})) element.setAttribute(`aria-${name}`, value);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A button that does something, whose failure the page has told already. */
export function button(words, action, properties = {}) {
  const made = make("button", { type: "button", ...properties }, words);
  made.addEventListener("click", () => Promise.resolve(action(made)).catch(() => {}));
  return made;
}
