// Elements and numbers. Text is always text: nothing here reads a string as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((x) => x != null && x !== false));
  return node;
}

/** h("p", {class: "lead", onclick: f}, "text", child) */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
/** The same for SVG. */
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Three digits, a real minus: 0.0123, 12.3, 1,234. */
export function number(x, digits = 3) {
  if (x == null || Number.isNaN(x)) return "–";
  if (!x) return "0";
  const big = Math.abs(x);
  const text = big >= 1e6 || big < 1e-3 ? x.toExponential(digits - 1).replace("e+", "e")
    : big >= 1000 ? Math.round(x).toLocaleString("en-US") : String(+x.toPrecision(digits));
  return text.replaceAll("-", "−");
}

/** The numbers of a picture, for who would rather read than see: a table that opens. */
export function table(head, rows, title = "The numbers") {
  const cell = (x) => (typeof x === "number" || x == null ? number(x) : x);
  return h("details", { class: "numbers" }, h("summary", {}, title),
    h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": title },
      h("table", {},
        h("thead", {}, h("tr", {}, head.map((x) => h("th", { scope: "col" }, x)))),
        h("tbody", {}, rows.map((row) => h("tr", {}, row.map((x) => h("td", {}, cell(x)))))))));
}

/** Which colour and dash means what: [["A", 0], ["B", 1]]. */
export function legend(entries) {
  return h("ul", { class: "legend" }, entries.map(([name, series]) =>
    h("li", { class: `s${series}` }, s("svg", { viewBox: "0 0 24 8", "aria-hidden": "true" },
      s("line", { class: `line d${series}`, x1: 0, x2: 24, y1: 4, y2: 4 })), name)));
}
