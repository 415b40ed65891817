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

/** Which colour and dash means what: [["A", 0], ["B", 1, "solid"], ["C", 2, "dot"], ["D", 3, "bar"]]. */
export function legend(entries) {
  const marks = {
    dot: () => s("circle", { cx: 12, cy: 4, r: 4 }),
    bar: () => s("rect", { x: 7, y: -1, width: 10, height: 10, rx: 1 }),
    line: (dash) => s("line", { class: `line ${dash}`, x1: 0, x2: 24, y1: 4, y2: 4 }),
  };
  return h("ul", { class: "legend" }, entries.map(([name, series, kind]) =>
    h("li", { class: `s${series}` }, s("svg", { viewBox: "0 0 24 8", "aria-hidden": "true" }, marks[kind]?.() ?? marks.line(kind === "solid" ? "" : `d${series}`)), name)));
}
