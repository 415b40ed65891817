// A picture with axes, in SVG, as wide as the place it is drawn in. Series k has colour .sk and dash .dk of style.css.

import { h, number, s } from "./dom.js";

/** About n round numbers from low to high. */
export function ticks(low, high, n = 5) {
  const rough = (high - low) / n || 1;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = size * [1, 2, 5, 10].find((k) => k * size >= rough);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(+(k * step).toPrecision(12));
  return found;
}

/** [low, high] of all numbers among these, a little wider; nulls are left out. zero: 0 is among them, and where it ends them it stays the end. */
export function range(values, { zero = false, pad = 0.05 } = {}) {
  const known = values.flat(Infinity).filter(Number.isFinite);
  let low = Math.min(...known, ...(zero ? [0] : [])), high = Math.max(...known, ...(zero ? [0] : []));
  if (!known.length) [low, high] = [0, 1];
  const more = (high - low || Math.abs(high) || 1) * pad;
  return [zero && low === 0 ? 0 : low - more, zero && high === 0 ? 0 : high + more];
}

/**
 * chart(root, {x: [low, high], y: [low, high], xlabel, ylabel, title, height, square}) -> what draws in it, each call
 * returning the SVG element: line, dots, band, bars, arrow, ellipse, shades, contour, rule, text; X and Y map numbers to pixels.
 * `title` says in words what is seen. `names`: [line, ...] for each of 0, 1, ... stand under the axis in place of numbers.
 * `square`: one unit is as long on both axes; `tight`: and the picture no wider than that.
 */
export function chart(root, { x, y, names, xlabel = "", ylabel = "", title = "", height = 320, square = false, tight = false, axes = true }) {
  x ??= [-0.6, names.length - 0.4];
  let width = Math.max(240, root.clientWidth || 640);
  const left = axes ? 52 : 8, right = 12, top = 20, bottom = (axes ? 40 : 8) + (names && xlabel ? 16 * names[0].length : 0);
  if (tight) width = Math.min(width, height - top - bottom + left + right);
  const wide = width - left - right;
  if (square) height = Math.min(height, wide + top + bottom);
  const high = height - top - bottom;
  if (square) [x, y] = squared(x, y, wide, high);
  const X = (v) => left + ((v - x[0]) / (x[1] - x[0])) * wide;
  const Y = (v) => top + high - ((v - y[0]) / (y[1] - y[0])) * high;
  const id = `clip-${Math.random().toString(36).slice(2)}`;
  const inside = s("g", { "clip-path": `url(#${id})` });
  const svg = s("svg", { class: "chart", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title },
    s("clipPath", { id }, s("rect", { x: left - 6, y: top - 6, width: wide + 12, height: high + 12 })),
    axes && frame(x, y, X, Y, { left, top, wide, high, names, xlabel, ylabel, width, height }), inside);
  root.append(svg);
  const put = (node) => (inside.append(node), node);
  const kind = (o, name) => `${name} s${o.series ?? 0}${o.dash === false ? "" : ` d${o.series ?? 0}`} ${o.class ?? ""}`;
  const path = (points) => {
    let pen = "M", text = "";
    for (const [a, b] of points) {
      if (a == null || b == null) { pen = "M"; continue; }
      text += `${pen}${X(a).toFixed(2)},${Y(b).toFixed(2)}`;
      pen = "L";
    }
    return text;
  };
  return {
    svg, X, Y, inside,
    /** points [[x, y], ...]; null makes a gap */
    line: (points, o = {}) => put(s("path", { class: kind(o, "line"), d: path(points) + (o.closed ? "Z" : "") })),
    /** between two lines over the same x */
    band: (xs, lows, highs, o = {}) =>
      put(s("path", { class: kind(o, "band"), d: path([...xs.map((v, i) => [v, lows[i]]), ...xs.map((v, i) => [v, highs[i]]).reverse()]) + "Z" })),
    dots: (points, o = {}) =>
      put(s("g", { class: kind(o, "dots") }, points.filter(([a, b]) => a != null && b != null)
        .map(([a, b, said]) => s("circle", { cx: X(a), cy: Y(b), r: o.r ?? 3.5 }, said && s("title", {}, said))))),
    /** [[x, value], ...] from 0, each `width` units wide */
    bars: (points, o = {}) =>
      put(s("g", { class: kind(o, "bars") }, points.map(([a, b, said]) => {
        const w = Math.max(1, X(a + (o.width ?? 0.8) / 2) - X(a - (o.width ?? 0.8) / 2));
        return s("rect", { x: X(a) - w / 2, y: Math.min(Y(b), Y(0)), width: w, height: Math.max(0.5, Math.abs(Y(b) - Y(0))) }, said && s("title", {}, said));
      }))),
    arrow: (from, to, o = {}) => put(arrow([X(from[0]), Y(from[1])], [X(to[0]), Y(to[1])], kind(o, "line arrow"))),
    /** the covariance's `sigma` ellipse round a mean */
    ellipse: (mean, covariance, o = {}) => put(s("path", { class: kind(o, "line ellipse"), d: path(ring(mean, covariance, o.sigma ?? 1)) + "Z" })),
    /** where values[j][i] over xs[i], ys[j] is above each of these levels: one coat of a series on another */
    shades: (xs, ys, values, levels, o = {}) =>
      levels.map((level) => put(s("path", { class: kind({ ...o, dash: false }, "shade"), d: rings(...walled(xs, ys, values), level).map((ring) => `${path(ring)}Z`).join("") }))),
    /** where values[j][i] is `level`; it ends at the sides */
    contour: (xs, ys, values, level, o = {}) => put(s("path", { class: kind(o, "line"), d: rings(xs, ys, values, level).map(path).join("") })),
    /** a hairline at one x or y */
    rule: ({ x: a, y: b }, o = {}) =>
      put(s("line", { class: `rule ${o.class ?? ""}`, x1: a == null ? left : X(a), x2: a == null ? left + wide : X(a), y1: b == null ? top : Y(b), y2: b == null ? top + high : Y(b) })),
    text: (a, b, words, o = {}) => put(s("text", { class: `note s${o.series ?? "x"} ${o.class ?? ""}`, x: X(a) + (o.dx ?? 0), y: Y(b) + (o.dy ?? 0), "text-anchor": o.anchor ?? "start" }, words)),
  };
}

/** marching squares: the lines along which values are `level`, each [[x, y], ...]; closed where it ends at its beginning */
function rings(xs, ys, values, level) {
  const next = new Map(), spot = new Map();
  const link = (a, b) => [[a, b], [b, a]].forEach(([from, to]) => next.set(from, [...(next.get(from) ?? []), to]));
  for (let j = 0; j + 1 < ys.length; j++) for (let i = 0; i + 1 < xs.length; i++) {
    const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]], found = [];
    corners.forEach(([a, b], k) => {
      const [c, d] = corners[(k + 1) % 4], v = values[b][a] - level, w = values[d][c] - level;
      if (v < 0 === w < 0) return;
      const side = `${Math.min(a, c)},${Math.min(b, d)},${a === c}`, part = Number.isFinite(v) && Number.isFinite(w) ? v / (v - w) : 1;
      spot.set(side, [xs[a] + part * (xs[c] - xs[a]), ys[b] + part * (ys[d] - ys[b])]);
      found.push(side);
    });
    for (let k = 0; k + 1 < found.length; k += 2) link(found[k], found[k + 1]);
  }
  const walk = (at) => {
    const line = [];
    for (let to = at; to; ) {
      line.push(spot.get(to));
      const on = next.get(to).pop();
      if (on) next.set(on, next.get(on).filter((x, k, all) => k !== all.indexOf(to)));
      to = on;
    }
    return line;
  };
  const ends = [...next.keys()].filter((k) => next.get(k).length === 1);
  return [...ends, ...next.keys()].map((k) => (next.get(k).length ? walk(k) : [])).filter((line) => line.length > 1);
}

/** the same values inside a wall below every level, so that each line closes */
function walled(xs, ys, values) {
  const wall = Array(xs.length + 2).fill(-Infinity), more = (v) => [v[0], ...v, v.at(-1)];
  return [more(xs), more(ys), [wall, ...values.map((row) => [-Infinity, ...row, -Infinity]), wall]];
}

function squared(x, y, wide, high) {
  const unit = Math.max((x[1] - x[0]) / wide, (y[1] - y[0]) / high);
  const grow = ([a, b], pixels) => { const c = (a + b) / 2, r = (unit * pixels) / 2; return [c - r, c + r]; };
  return [grow(x, wide), grow(y, high)];
}

function frame(x, y, X, Y, { left, top, wide, high, names, xlabel, ylabel, width, height }) {
  const across = ticks(...x, Math.max(2, Math.min(8, Math.floor(wide / 60)))), up = ticks(...y, Math.max(2, Math.round(high / 44)));
  return s("g", { class: "axes", "aria-hidden": "true" },
    up.map((v) => [s("line", { class: "grid", x1: left, x2: left + wide, y1: Y(v), y2: Y(v) }),
      s("text", { x: left - 8, y: Y(v) + 4, "text-anchor": "end" }, number(v))]).flat(),
    s("line", { class: "axis", x1: left, x2: left + wide, y1: top + high, y2: top + high }),
    names ? names.map((lines, k) => lines.map((words, j) => s("text", { class: j ? "" : "name", x: X(k), y: top + high + 18 + 16 * j, "text-anchor": "middle" }, words)))
      : across.map((v) => s("text", { x: X(v), y: top + high + 18, "text-anchor": "middle" }, number(v))),
    s("text", { class: "label", x: width - 12, y: height - 4, "text-anchor": "end" }, xlabel),
    s("text", { class: "label", x: 0, y: 11 }, ylabel));
}

function arrow([x1, y1], [x2, y2], name) {
  const angle = Math.atan2(y2 - y1, x2 - x1), size = Math.min(9, Math.hypot(x2 - x1, y2 - y1) / 2);
  const side = (turn) => `${x2 - size * Math.cos(angle + turn)},${y2 - size * Math.sin(angle + turn)}`;
  return s("path", { class: name, d: `M${x1},${y1}L${x2},${y2}M${side(0.45)}L${x2},${y2}L${side(-0.45)}` });
}

/** mean + sigma L (cos, sin), L the Cholesky factor of the covariance */
function ring([mx, my], [[a, b], [, d]], sigma) {
  const l = Math.sqrt(Math.max(a, 0)), m = l ? b / l : 0, n = Math.sqrt(Math.max(d - m * m, 0));
  return Array.from({ length: 72 }, (_, k) => {
    const c = sigma * Math.cos((k * Math.PI) / 36), e = sigma * Math.sin((k * Math.PI) / 36);
    return [mx + l * c, my + m * c + n * e];
  });
}

/** From where it was to where it is, [dx, dy] pixels. */
export const glide = (node, dx, dy, ms = 450) => node.animate([{ transform: `translate(${dx}px,${dy}px)` }, { transform: "none" }], { duration: ms, easing: "ease-in-out" });

/** A line that is drawn while one looks. */
export function trace(line, ms = 1600) {
  const far = line.getTotalLength();
  return line.animate([{ strokeDasharray: far, strokeDashoffset: far }, { strokeDasharray: far, strokeDashoffset: 0 }], { duration: ms });
}

/** chart in a figure with a caption */
export function figure(root, caption, options) {
  const place = h("div", { class: "place" });
  root.append(h("figure", {}, place, caption && h("figcaption", {}, caption)));
  return chart(place, options);
}
