// One example of the data: a point among the others, an image, or a list of numbers; its target, its answer, its cost.

import { make } from "./elements.js";

const SVG = "http://www.w3.org/2000/svg";
const SIZE = 160;

/** Draw what `rules/example` answered into an element. */
export function example(element, found) {
  const facts = [
    ["target", found.target],
    ["the network answers", found.output],
    ["cost", found.cost],
  ];
  const list = make(
    "dl",
    { className: "example-facts" },
    ...facts.map(([name, value]) =>
      make(
        "div",
        {},
        make("dt", { className: "small muted" }, name),
        make("dd", { className: "number", textContent: value }),
      ),
    ),
  );
  const drawn = { image, point, numbers }[found.kind](found);
  element.replaceChildren(
    make("h4", {}, `Example ${found.row}`),
    make("div", { className: "example-body" }, drawn, list),
  );
}

function image({ side, shades, row, target }) {
  const canvas = make("canvas", { className: "pixels", width: side, height: side });
  const pixels = new ImageData(side, side);
  shades.forEach((shade, i) => {
    const grey = Math.round(255 * shade);
    pixels.data.set([grey, grey, grey, 255], 4 * i);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `The image of example ${row}, ${side} by ${side} pixels, labelled ${target}`);
  return canvas;
}

function point({ points, at, group, numbers: named, row }) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${SIZE} ${SIZE}`);
  svg.setAttribute("class", "example-plane");
  svg.setAttribute("role", "img");
  svg.setAttribute(
    "aria-label",
    `Example ${row} lies at ${named.map(({ name, value }) => `${name} = ${value}`).join(", ")}`,
  );
  const dot = ([x, y], which, radius, more = "") => {
    const circle = document.createElementNS(SVG, "circle");
    const place = { cx: SIZE * x, cy: SIZE * (1 - y), r: radius, class: `group-${which} ${more}` };
    for (const [name, value] of Object.entries(place)) circle.setAttribute(name, value);
    svg.append(circle);
  };
  for (const [x, y, which] of points) dot([x, y], which, 2);
  dot(at, group, 5, "here");
  return svg;
}

function numbers({ numbers: named, more }) {
  const rows = named.map(({ name, value }) =>
    make(
      "tr",
      {},
      make("th", { scope: "row", textContent: name }),
      make("td", { className: "number", textContent: value }),
    ),
  );
  const rest = more
    ? [make("tr", {}, make("td", { colSpan: 2, className: "muted", textContent: `and ${more} more` }))]
    : [];
  return make(
    "div",
    { className: "scroll example-numbers" },
    make("table", { className: "numbers" }, make("tbody", {}, ...rows, ...rest)),
  );
}
