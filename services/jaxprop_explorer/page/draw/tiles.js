// Small pictures side by side in one canvas: what a layer answers, or the errors that come back to it.

import { colours, decode } from "./heat.js";

/** Paint `maps` {count, height, width, values: [base64 of int8]} as tiles, one pixel a value and one between tiles. */
export function paintTiles(canvas, maps, shade = null) {
  const columns = maps.count > 8 ? Math.ceil(maps.count / 2) : maps.count;
  const rows = Math.ceil(maps.count / columns);
  const gap = maps.count > 1 ? 1 : 0;
  const width = columns * (maps.width + gap) - gap;
  const height = rows * (maps.height + gap) - gap;
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(width, height);
  const table = shade ?? colours();
  maps.values.forEach((base64, k) => {
    const values = decode(base64);
    const left = (k % columns) * (maps.width + gap);
    const top = Math.floor(k / columns) * (maps.height + gap);
    values.forEach((value, at) => {
      const x = left + (at % maps.width);
      const y = top + Math.floor(at / maps.width);
      image.data.set([...table[value + 128], 255], 4 * (y * width + x));
    });
  });
  pen.putImageData(image, 0, 0);
}

/** Shades between the page's ground and its ink, for pictures that are drawn. */
export function inkShades() {
  const style = getComputedStyle(document.documentElement);
  const [ground, ink] = ["--raised", "--ink"].map((name) => channels(style.getPropertyValue(name).trim()));
  return Array.from({ length: 256 }, (_, k) => {
    const part = Math.min(Math.max((k - 128) / 127, 0), 1);
    return ground.map((from, i) => Math.round(from + part * (ink[i] - from)));
  });
}

function channels(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}
