// The drawing of a network as a file of its own: a list of shapes, written as SVG or drawn into a PNG, with a title
// and a legend. Colours are those that the page shows now.

import { label } from "./format.js";

const [MARGIN, HEAD, FOOT] = [24, 52, 48];

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** {width, height, shapes} of what a `NetworkDrawing` shows. */
export function scene(drawing, { title, subtitle }) {
  const { place, edges, view } = drawing;
  const width = place.width + 2 * MARGIN;
  const height = place.height + HEAD + FOOT;
  const [ink, muted, paper, line] = ["--ink", "--muted", "--paper", "--line-strong"].map(style);
  const shapes = [{ kind: "rect", x: 0, y: 0, width, height, fill: paper }];
  const text = (x, y, words, size, fill, anchor = "start", weight = 400) => {
    shapes.push({ kind: "text", x, y, words, size, fill, anchor, weight, halo: paper });
  };
  text(MARGIN, 26, title, 16, ink, "start", 600);
  text(MARGIN, 44, subtitle, 12, muted);
  for (const path of edges) {
    const stroke = getComputedStyle(path);
    const dash = stroke.strokeDasharray === "none" ? [] : stroke.strokeDasharray.split(/[\s,]+/).map(parseFloat);
    const [x0, y0, x1, y1] = path.ends;
    shapes.push({
      kind: "curve",
      ends: [x0 + MARGIN, y0 + HEAD, x1 + MARGIN, y1 + HEAD],
      stroke: stroke.stroke,
      width: Number(path.getAttribute("stroke-width")),
      dash,
      opacity: Number(stroke.opacity),
    });
  }
  drawing.columns.flat().forEach(({ tile, canvas, name, value }) => {
    const [x, y] = [parseFloat(tile.style.left) + MARGIN, parseFloat(tile.style.top) + HEAD];
    const [w, h] = [parseFloat(tile.style.width), parseFloat(tile.style.height)];
    shapes.push({ kind: "image", x, y, width: w, height: h, canvas });
    const shade = { plus: style("--positive"), minus: style("--negative") }[tile.dataset.delta];
    shapes.push({ kind: "frame", x, y, width: w, height: h, stroke: shade ?? line, thick: shade ? 3 : 1 });
    if (name?.textContent) text(x - 7, y + h / 2 + 4, name.textContent, 12, muted, "end");
    if (value?.textContent) text(x + w / 2, y + h + 14, value.textContent, 11, ink, "middle", 500);
  });
  for (const one of drawing.numbers.children) {
    if (one.hasAttribute("hidden")) continue;
    text(
      Number(one.getAttribute("x")) + MARGIN,
      Number(one.getAttribute("y")) + HEAD,
      one.textContent,
      11,
      ink,
      "middle",
    );
  }
  legend(shapes, text, height - 20, view.direction === "backward" ? "∂C/∂w" : "weight", muted);
  return { width, height, shapes };
}

function legend(shapes, text, y, what, muted) {
  const entry = (x, colour, dash, words) => {
    shapes.push({ kind: "curve", ends: [x, y - 4, x + 36, y - 4], stroke: colour, width: 3, dash, opacity: 1 });
    text(x + 44, y, words, 12, muted);
  };
  entry(MARGIN, style("--positive"), [], `positive ${what}`);
  entry(MARGIN + 150, style("--negative"), [7, 4], `negative ${what}`);
  text(MARGIN + 300, y, "wider is larger", 12, muted);
}

const escaped = (text) =>
  String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const path = ([x0, y0, x1, y1]) => `M${x0} ${y0}C${(x0 + x1) / 2} ${y0} ${(x0 + x1) / 2} ${y1} ${x1} ${y1}`;

/** A scene as the text of an SVG file that needs nothing else. */
export function asSVG({ width, height, shapes }, title) {
  const round = (value) => Math.round(value * 10) / 10;
  const write = {
    rect: (s) => `<rect x="${s.x}" y="${s.y}" width="${s.width}" height="${s.height}" fill="${escaped(s.fill)}"/>`,
    frame: (s) =>
      `<rect x="${round(s.x)}" y="${round(s.y)}" width="${s.width}" height="${s.height}" rx="4" fill="none" ` +
      `stroke="${escaped(s.stroke)}" stroke-width="${s.thick}"/>`,
    image: (s) =>
      `<image x="${round(s.x)}" y="${round(s.y)}" width="${s.width}" height="${s.height}" ` +
      `preserveAspectRatio="none" href="${s.canvas.toDataURL("image/png")}"/>`,
    curve: (s) =>
      `<path d="${path(s.ends.map(round))}" fill="none" stroke="${escaped(s.stroke)}" stroke-width="${s.width}"` +
      (s.dash.length ? ` stroke-dasharray="${s.dash.join(" ")}"` : "") +
      (s.opacity < 1 ? ` opacity="${s.opacity}"/>` : "/>"),
    text: (s) =>
      `<text x="${round(s.x)}" y="${round(s.y)}" font-size="${s.size}" font-weight="${s.weight}" ` +
      `fill="${escaped(s.fill)}" text-anchor="${s.anchor}" ` +
      `stroke="${escaped(s.halo)}" stroke-width="3" paint-order="stroke">${escaped(s.words)}</text>`,
  };
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ` +
    `font-family="${escaped(style("--font").replaceAll('"', "'"))}" role="img">\n<title>${escaped(title)}</title>\n` +
    `${shapes.map((s) => write[s.kind](s)).join("\n")}\n</svg>\n`
  );
}

/** A scene drawn into a canvas, twice as fine as the page. */
export function asCanvas({ width, height, shapes }) {
  const canvas = document.createElement("canvas");
  canvas.width = 2 * width;
  canvas.height = 2 * height;
  const pen = canvas.getContext("2d");
  pen.scale(2, 2);
  const draw = {
    rect: (s) => {
      pen.fillStyle = s.fill;
      pen.fillRect(s.x, s.y, s.width, s.height);
    },
    frame: (s) => {
      pen.strokeStyle = s.stroke;
      pen.lineWidth = s.thick;
      pen.strokeRect(s.x, s.y, s.width, s.height);
    },
    image: (s) => pen.drawImage(s.canvas, s.x, s.y, s.width, s.height),
    curve: (s) => {
      pen.globalAlpha = s.opacity;
      pen.setLineDash(s.dash);
      Object.assign(pen, { strokeStyle: s.stroke, lineWidth: s.width });
      pen.stroke(new Path2D(path(s.ends)));
      pen.setLineDash([]);
      pen.globalAlpha = 1;
    },
    text: (s) => {
      pen.font = `${s.weight} ${s.size}px ${style("--font")}`;
      Object.assign(pen, {
        fillStyle: s.fill,
        textAlign: { start: "left", middle: "center", end: "right" }[s.anchor],
      });
      Object.assign(pen, { strokeStyle: s.halo, lineWidth: 3, lineJoin: "round" });
      pen.strokeText(s.words, s.x, s.y);
      pen.fillText(s.words, s.x, s.y);
    },
  };
  for (const shape of shapes) draw[shape.kind](shape);
  return canvas;
}

/** Keep a text or a canvas as a file. */
export async function keep(name, content, type) {
  const blob =
    content instanceof HTMLCanvasElement
      ? await new Promise((resolve) => {
          content.toBlob(resolve, "image/png");
        })
      : new Blob([content], { type });
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** What the picture of a frame is called, in a title and a line below it. */
export function titles(frame) {
  const counts = [frame.inputs.values.length, ...frame.layers.map((layer) => layer.units)].join(" – ");
  const cost = frame.cost === null ? "" : `, cost ${label(frame.cost)}`;
  return { title: `Network ${counts}`, subtitle: `${frame.settings?.data ?? ""} after ${frame.step} steps${cost}` };
}
