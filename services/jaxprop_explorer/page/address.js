// The state of the page as its address holds it: readable key=value pairs behind the #, for example
// #panel=network&data=moons&layers=(4,3)&learning_rate=0.1&steps=120&selected=0.W:1,0

const SINGLE = ["panel", "steps", "example"]; // what stands for itself; every other bare key is a setting

/** {panel, steps, selected, settings: {...}, history: [...], ...what panels keep} from the fragment of an address. */
export function read(fragment) {
  const state = { settings: {} };
  for (const pair of fragment.replace(/^#/, "").split("&").filter(Boolean)) {
    const at = pair.indexOf("=");
    const key = at < 0 ? pair : pair.slice(0, at);
    try {
      const value = parse(decodeURIComponent(at < 0 ? "" : pair.slice(at + 1)));
      put(state, decodeURIComponent(key), value);
    } catch {
      // A pair that was cut off in a mail is left out; the rest still holds.
    }
  }
  return state;
}

function put(state, key, value) {
  const [first, ...rest] = key.split(".");
  // What every object has is nobody's setting; to write to it would change all objects of the page.
  if ([key, key.slice(1), first, rest.join(".")].some((name) => name in {})) return;
  if (key === "selected") state.selected = place(String(value));
  else if (key === "changes") state.history = String(value).split(";").map(change);
  else if (SINGLE.includes(key)) state[key] = value;
  else if (rest.length === 0 && !key.startsWith("~")) state.settings[key] = value;
  else if (rest.length === 0) state[key.slice(1)] = value;
  else (state[first] ??= {})[rest.join(".")] = value;
}

/** The fragment, without #, of a state. */
export function write(state) {
  const pairs = [];
  const add = (key, value) => {
    if (value !== null && value !== undefined) pairs.push(`${key}=${shown(value)}`);
  };
  add("panel", state.panel);
  for (const [key, value] of Object.entries(state.settings ?? {})) add(key, value);
  if (state.steps) add("steps", state.steps);
  if (state.example) add("example", state.example);
  if (state.history?.length) add("changes", state.history.map(shortly).join(";"));
  if (state.selected) add("selected", `${state.selected.path}:${(state.selected.index ?? []).join(",")}`);
  for (const [key, value] of Object.entries(state)) {
    if ([...SINGLE, "settings", "selected", "history"].includes(key)) continue;
    if (value && typeof value === "object" && !Array.isArray(value)) {
      for (const [inner, one] of Object.entries(value)) add(`${key}.${inner}`, one);
    } else if (!(Array.isArray(value) && value.length === 0)) add(`~${key}`, value);
  }
  return pairs.join("&");
}

function place(text) {
  const at = text.lastIndexOf(":");
  const index = text
    .slice(at + 1)
    .split(",")
    .filter(Boolean)
    .map(Number);
  return at < 0 ? { path: text, index: [] } : { path: text.slice(0, at), index };
}

// A change is written as its step, what, and the value: "120:learning_rate:0.5", "130:0.W[1,2]:0.25" or
// "140:0.W[1,2]:pruned".
function shortly({ at, set, edit, prune }) {
  if (set)
    return Object.entries(set)
      .map(([name, value]) => `${at}:${name}:${raw(value)}`)
      .join(";");
  const [path, index, value] = edit ?? prune;
  return `${at}:${path}[${index.join(",")}]:${edit ? value : value ? "pruned" : "free"}`;
}

function change(text) {
  const [, at, what, value] = /^(\d+):(.+):([^:]*)$/.exec(text);
  const found = /^(.+)\[([\d,]*)\]$/.exec(what);
  if (!found) return { at: Number(at), set: { [what]: parse(value) } };
  const where = [found[1], found[2].split(",").filter(Boolean).map(Number)];
  if (value === "pruned" || value === "free") return { at: Number(at), prune: [...where, value === "pruned"] };
  return { at: Number(at), edit: [...where, Number(value)] };
}

function raw(value) {
  return typeof value === "string" && parse(value) === value ? value : JSON.stringify(value);
}

function shown(value) {
  let text;
  const simple = (one) => typeof one === "number" || (typeof one === "string" && /^[\w.-]+$/.test(one));
  if (Array.isArray(value) && value.every(simple)) text = `(${value.join(",")})`;
  else if (typeof value === "string") text = parse(value) === value ? value : JSON.stringify(value);
  else text = JSON.stringify(value);
  return encodeURIComponent(text)
    .replaceAll("%2C", ",")
    .replaceAll("%3A", ":")
    .replaceAll("%3B", ";")
    .replaceAll("%5B", "[")
    .replaceAll("%5D", "]");
}

function parse(text) {
  if (/^\(.*\)$/.test(text)) return text.slice(1, -1).split(",").filter(Boolean).map(parse);
  if (/^(-?\d+(\.\d+)?(e[+-]?\d+)?|true|false|null|[{["].*)$/is.test(text)) {
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  }
  return text;
}
