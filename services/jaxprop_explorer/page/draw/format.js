// How numbers and names are written in words and labels. Nothing is computed here: only rounded for reading.

const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";

/** A number with `digits` significant digits, a real minus sign, and never "-0". */
export function number(value, digits = 3) {
  if (value === null || value === undefined) return "not computed yet";
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-4 ? value.toExponential(Math.max(0, digits - 1)) : plain(value, digits);
  return text.replace(/e\+?(-?)(\d+)$/, (_, sign, power) => ` · 10${superscript(sign + power)}`).replace("-", "−");
}

function plain(value, digits) {
  const whole = Math.floor(Math.log10(Math.abs(value))) + 1;
  return value.toFixed(Math.max(0, Math.min(8, digits - whole)));
}

function superscript(text) {
  return [...text].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(c)])).join("");
}

/** A short label of a fixed number of places, so that a column of them does not dance. */
export function label(value) {
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return number(value);
  const size = Math.abs(value);
  const text = size >= 1000 || (size < 0.005 && size > 0) ? number(value, 2) : value.toFixed(size >= 100 ? 0 : 2);
  return text.replace("-", "−");
}

export function subscript(n) {
  return [...String(n)].map((c) => SUBSCRIPTS[Number(c)]).join("");
}

/** What input k is called: its column's own name, or x with the number that the formulas give it, from 0 on. */
export function inputName(frame, k) {
  if (k >= frame.inputs.values.length) return `input ${k} of this layer`;
  const name = frame.inputs.names[k];
  return name === undefined || /^x\d+$/.test(name) ? `x${subscript(k)}` : name;
}

/** What the units of a column are called: "x₀", "hidden 1 unit 2", "the output"; units are counted from 0, as in
 * the formulas. */
export function unitName(frame, column, unit) {
  if (column === 0) return inputName(frame, unit);
  const layer = frame.layers[column - 1];
  if (column < frame.layers.length) return `hidden ${column} unit ${unit}`;
  return layer.units === 1 ? "the output" : `output ${unit}`;
}

/** Where a weight begins: not at an input where another layer, such as a convolution, stands before the first that
 * is drawn. */
export function startName(frame, column, unit) {
  return column === 0 && frame.behind ? `input ${unit} of this layer` : unitName(frame, column, unit);
}

export function columnName(frame, column) {
  if (column === 0) return "inputs";
  return column < frame.layers.length ? `hidden ${column}` : "output";
}
