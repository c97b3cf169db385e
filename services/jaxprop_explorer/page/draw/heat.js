// Pictures of numbers between −1 and 1: int8 values from the server become pixels between orange (negative) and blue
// (positive).

let table = null;

const scheme = matchMedia("(prefers-color-scheme: dark)");
scheme.addEventListener("change", () => {
  table = null;
});

/** Calls `draw` whenever the colours of the page change. */
export function onColours(draw) {
  scheme.addEventListener("change", draw);
}

function triple(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim().split(/\s+/).map(Number);
}

/** 256 colours as [red, green, blue], the one of value v at v + 128. */
export function colours() {
  if (table) return table;
  const [zero, plus, minus] = ["--heat-zero", "--heat-plus", "--heat-minus"].map(triple);
  table = Array.from({ length: 256 }, (_, k) => {
    const v = (k - 128) / 127;
    const end = v >= 0 ? plus : minus;
    const part = Math.min(1, Math.abs(v));
    return zero.map((c, i) => Math.round(c + (end[i] - c) * part));
  });
  return table;
}

/** The colour of a value in [−1, 1] as CSS writes it. */
export function colour(value) {
  const k = Math.max(0, Math.min(255, Math.round((Number.isFinite(value) ? value : 0) * 127) + 128));
  return `rgb(${colours()[k].join(" ")})`;
}

export function decode(base64) {
  const text = atob(base64);
  const values = new Int8Array(text.length);
  for (let k = 0; k < text.length; k += 1) values[k] = text.charCodeAt(k);
  return values;
}

const painted = new WeakMap();

/** Paints int8 values (base64) into a canvas, one pixel a value; does nothing when the same picture is there
 * already. */
export function paint(canvas, width, height, base64) {
  const shade = colours();
  const before = painted.get(canvas);
  if (before && before.base64 === base64 && before.shade === shade && canvas.width === width) return;
  painted.set(canvas, { base64, shade });
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const values = decode(base64);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = image.data;
  for (let k = 0, p = 0; k < values.length; k += 1, p += 4) {
    const [red, green, blue] = shade[values[k] + 128];
    pixels[p] = red;
    pixels[p + 1] = green;
    pixels[p + 2] = blue;
    pixels[p + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/** Paints plain numbers, each divided by `scale`, one pixel a value. */
export function paintNumbers(canvas, width, height, numbers, scale) {
  const bytes = new Uint8Array(numbers.length);
  for (let k = 0; k < numbers.length; k += 1) {
    bytes[k] = Math.max(-127, Math.min(127, Math.round((127 * numbers[k]) / (scale || 1)))) & 255;
  }
  paint(canvas, width, height, btoa(String.fromCharCode(...bytes)));
}
