// What can be turned: one control for each field of a demonstration's Params, and the seed.

import { h, number } from "./dom.js";

/** A value from the URL's text; what the text does not fit is left to the server, whose sentence is shown. */
export function read(field, text) {
  if (text == null) return field.default;
  if (field.kind === "flag") return text === "true";
  if (field.kind === "choice") return field.choices.find((x) => String(x) === text) ?? text;
  return field.kind === "text" ? text || null : text === "" || Number.isNaN(+text) ? text : +text;
}

/** {name: value} of all fields -> the URL's query, defaults left out */
export function write(fields, values, seed) {
  const said = new URLSearchParams();
  for (const f of fields) if (values[f.name] !== f.default && values[f.name] != null) said.set(f.name, values[f.name]);
  if (seed) said.set("seed", seed);
  return said.toString();
}

/** The form; `turn({name: value})` and `reseed(n)` are told of every change. `show(values, seed)` brings it up to date. */
export function controls(fields, turn, reseed, reset, seeds = 2 ** 31) {
  const made = fields.filter((f) => f.kind !== "text").map((f) => [f, control(f, (x) => turn({ [f.name]: x }))]);
  const seed = h("input", { type: "number", id: "seed", min: 0, max: seeds - 1, step: 1, onchange: (e) => reseed(Math.max(0, Math.trunc(+e.target.value) || 0)) });
  const form = h("form", { class: "controls", "aria-label": "Parameters", onsubmit: (e) => e.preventDefault() },
    made.map(([, c]) => c.node),
    h("div", { class: "control" }, h("label", { for: "seed" }, "seed"),
      h("div", { class: "row" }, seed, h("button", { type: "button", class: "quiet", onclick: () => reseed((+seed.value || 0) + 1) }, "next seed")),
      h("small", {}, "the same link shows the same picture")),
    h("button", { type: "button", class: "quiet", onclick: reset }, "all as it was"));
  return { node: form, show: (values, n) => { made.forEach(([f, c]) => c.show(values[f.name])); seed.value = n; } };
}

function control(field, turn) {
  const id = `p-${field.name}`, help = h("small", { id: `${id}-help` }, field.help);
  const label = h("label", { for: id }, field.label);
  if (field.kind === "flag") {
    const box = h("input", { type: "checkbox", id, "aria-describedby": help.id, onchange: () => turn(box.checked) });
    return { node: h("div", { class: "control flag" }, box, label, help), show: (x) => { box.checked = x; } };
  }
  if (field.kind === "choice") {
    const radios = field.choices.map((x) => h("input", { type: "radio", name: id, value: String(x), onchange: () => turn(x) }));
    const group = h("div", { class: "segments" }, field.choices.map((x, i) => h("label", {}, radios[i], h("span", {}, String(x).replaceAll("_", " ")))));
    return { node: h("fieldset", { class: "control" }, h("legend", {}, field.label), group, help), show: (x) => radios.forEach((r, i) => { r.checked = field.choices[i] === x; }) };
  }
  return numeric(field, id, label, help, turn);
}

function numeric(field, id, label, help, turn) {
  const { low, high } = field, whole = field.kind === "int";
  if (low == null || high == null) {
    const box = h("input", { type: "number", id, min: low, max: high, step: whole ? 1 : "any", "aria-describedby": help.id, onchange: () => turn(box.value === "" ? null : +box.value) });
    return { node: h("div", { class: "control" }, label, box, help), show: (x) => { box.value = x ?? ""; } };
  }
  const log = low > 0 && high / low >= 50, steps = whole && !log ? high - low : 200;
  const at = (k) => (log ? low * (high / low) ** (k / steps) : low + ((high - low) * k) / steps);
  const value = (k) => (k <= 0 ? low : k >= steps ? high : whole ? Math.round(at(k)) : +at(k).toPrecision(3));
  const place = (x) => (log ? (steps * Math.log(x / low)) / Math.log(high / low) : (steps * (x - low)) / (high - low));
  const told = h("output", { for: id });
  const slider = h("input", { type: "range", id, min: 0, max: steps, step: 1, "aria-describedby": help.id, oninput: () => { say(value(+slider.value)); turn(value(+slider.value)); } });
  const say = (x) => { told.textContent = number(x); slider.setAttribute("aria-valuetext", number(x)); };
  return {
    node: h("div", { class: "control" }, h("div", { class: "row" }, label, told), slider, help),
    show: (x) => { if (typeof x === "number" && value(+slider.value) !== x) slider.value = place(x); say(x); },
  };
}
