// The map of a two-parameter policy: shades are the true return, rings are equal KL from the start, lines are what each method does.

const BEAT = 700; // milliseconds of a step that is watched
const BANDS = 12, RINGS = [1, 4, 16, 64], WORDS = ["δ", "4 δ", "16 δ", "64 δ"];

export function draw(root, data, { h, legend, figure, range, trace, number, table, before, still }) {
  const names = Object.keys(data.paths), place = h("div", {}), two = h("div", { class: "two" }), start = data.paths[names[0]][0].theta;
  const again = !still && h("button", { type: "button", class: "main", onclick: () => walk() }, "Watch the steps");
  root.replaceChildren(h("div", { class: "row keys" }, again), legend([...names.map((n, i) => [n, i]), ["KL(old ‖ new) from the start", 7, "solid"]]), place, two);
  const axis = data.axis, ends = [axis[0], axis.at(-1)], last = data.paths[names[0]].length - 1;
  const map = figure(place, "The stronger the shade, the higher the return. A ring is one distance in policy space: a step of one length in the parameters crosses few rings or many.", { x: ends, y: ends, height: 620, square: true, tight: true, xlabel: data.parameters[0], ylabel: data.parameters[1], title: `Paths of five methods over the map of the return, with rings of equal KL; after ${last} steps ${names.map((n) => `${n} has J ${number(data.paths[n].at(-1).J)}`).join(", ")}` });
  const every = data.J.flat(), low = Math.min(...every), high = Math.max(...every);
  map.shades(axis, axis, data.J, Array.from({ length: BANDS }, (_, k) => low + ((k + 0.5) / BANDS) * (high - low)), { series: 5 });
  RINGS.forEach((k, i) => {
    map.contour(axis, axis, data.kl, k * data.delta, { series: 7, dash: false, class: "fine" });
    const top = crossing(axis, data.kl, start, k * data.delta);
    if (top) map.text(start[0], top, WORDS[i], { series: 7, anchor: "middle", dy: 4 });
  });
  const lines = names.map((n, i) => {
    const points = data.paths[n].map((p) => p.theta);
    const line = map.line(points, { series: i, class: "bold" });
    const dots = map.dots(points.map((p, k) => [...p, `${n}, step ${k}: KL ${number(data.paths[n][k].kl)}, J ${number(data.paths[n][k].J)}`]), { series: i, r: 4.5 });
    return [line, ...dots.children];
  });
  map.dots([[...start, "start"]], { series: 6, r: 7 });
  map.text(...start, "start", { series: 6, dx: 12, dy: 5 });
  let going = [];
  const stop = () => going.forEach((x) => x.cancel());
  const walk = () => {
    stop();
    going = still ? [] : lines.flatMap(([line, ...dots]) => [trace(line, BEAT * last), ...dots.map((dot, k) => dot.animate({ opacity: [0, 0] }, BEAT * k))]);
  };
  if (!before) walk();
  charts(two, data, names, last, { h, figure, range });
  root.append(table(["step", "iteration", ...data.parameters, "KL of the step", "KL from the start", "J"], names.flatMap((n) => data.paths[n].map((p, k) => [n, String(k), ...p.theta, p.step, p.kl, p.J]))));
  return stop;
}

/** How far above the start the KL is `level`: where the ring is named; none where it lies outside the map. */
function crossing(axis, kl, [x], level) {
  const column = axis.reduce((best, v, i) => (Math.abs(v - x) < Math.abs(axis[best] - x) ? i : best), 0);
  for (let j = axis.length - 1; j > 0; j--) {
    const [a, b] = [kl[j - 1][column], kl[j][column]];
    if (a < level !== b < level && a < b) return axis[j - 1] + ((level - a) / (b - a)) * (axis[j] - axis[j - 1]);
  }
  return null;
}

function charts(two, data, names, last, { h, figure, range }) {
  const left = h("div", {}), right = h("div", {});
  two.append(left, right);
  const far = figure(left, "KL of each step, over its own batch; the rule is δ.", { x: [1, Math.max(2, last)], y: range([names.map((n) => data.paths[n].slice(1).map((p) => p.step)), data.delta], { zero: true }), height: 230, xlabel: "iteration", ylabel: "KL of the step", title: "KL of each step" });
  far.rule({ y: data.delta });
  const worth = figure(right, "The true return on the way.", { x: [0, last], y: range(names.map((n) => data.paths[n].map((p) => p.J))), height: 230, xlabel: "iteration", ylabel: "J", title: "Return along each path" });
  names.forEach((n, i) => {
    far.line(data.paths[n].slice(1).map((p, k) => [k + 1, p.step]), { series: i });
    far.dots(data.paths[n].slice(1).map((p, k) => [k + 1, p.step]), { series: i });
    worth.line(data.paths[n].map((p, k) => [k, p.J]), { series: i });
    worth.dots(data.paths[n].map((p, k) => [k, p.J]), { series: i });
  });
}
