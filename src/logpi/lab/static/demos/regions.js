// The map of a two-parameter policy: shades are the true return, rings are equal KL from the start, lines are what each method does.

export function draw(root, data, { h, legend, figure, range, number, table }) {
  const names = Object.keys(data.paths), place = h("div", {}), two = h("div", { class: "two" }), start = data.paths[names[0]][0].theta;
  root.replaceChildren(legend([...names.map((n, i) => [n, i]), ["KL(old ‖ new) = δ, 4 δ, 16 δ, 64 δ", 7]]), place, two);
  const axis = data.axis, ends = [axis[0], axis.at(-1)];
  const map = figure(place, "The stronger the shade, the higher the return. One step of the parameters is not one step of the policy: the rings are no circles.", { x: ends, y: ends, height: 560, square: true, tight: true, xlabel: data.parameters[0], ylabel: data.parameters[1], title: "Paths of five methods over the map of the return, with rings of equal KL" });
  map.heat(axis, axis, data.J, { series: 6 });
  for (const k of [1, 4, 16, 64]) map.contour(axis, axis, data.kl, k * data.delta, { series: 7, dash: false, class: "fine" });
  names.forEach((n, i) => {
    const points = data.paths[n].map((p) => p.theta);
    map.line(points, { series: i, class: "bold" });
    map.dots(points.map((p, k) => [...p, `${n}, step ${k}: KL ${number(data.paths[n][k].kl)}, J ${number(data.paths[n][k].J)}`]), { series: i, r: 4.5 });
  });
  map.dots([[...start, "start"]], { series: 6, r: 7 });
  const left = h("div", {}), right = h("div", {}), last = data.paths[names[0]].length - 1;
  two.append(left, right);
  const far = figure(left, "KL of each step; the line is δ.", { x: [1, Math.max(2, last)], y: range([names.map((n) => data.paths[n].slice(1).map((p) => p.step)), data.delta], { zero: true }), height: 230, xlabel: "iteration", ylabel: "KL of the step", title: "KL of each step" });
  far.rule({ y: data.delta });
  const worth = figure(right, "The true return on the way.", { x: [0, last], y: range(names.map((n) => data.paths[n].map((p) => p.J))), height: 230, xlabel: "iteration", ylabel: "J", title: "Return along each path" });
  names.forEach((n, i) => {
    far.line(data.paths[n].slice(1).map((p, k) => [k + 1, p.step]), { series: i });
    far.dots(data.paths[n].slice(1).map((p, k) => [k + 1, p.step]), { series: i });
    worth.line(data.paths[n].map((p, k) => [k, p.J]), { series: i });
    worth.dots(data.paths[n].map((p, k) => [k, p.J]), { series: i });
  });
  root.append(table(["step", "iteration", ...data.parameters, "KL of the step", "KL from the start", "J"], names.flatMap((n) => data.paths[n].map((p, k) => [n, String(k), ...p.theta, p.step, p.kl, p.J]))));
}
