// The cloud of single-episode gradients round the exact one; the axes are those of the widest credit, so that a cloud can be seen to shrink.

const TITLES = { total: "total return", to_go: "reward-to-go", baseline: "to-go minus V", advantage: "advantage" };

const seen = new WeakMap(); // where each dot of a picture was

export function draw(root, data, { h, s, number, table, legend, figure, range, glide, still, params, set, has }) {
  const names = Object.keys(data.credits), now = data.credits[params.credit], k = names.indexOf(params.credit);
  const held = document.activeElement?.dataset.more, last = now.points.length;
  const more = [1, 10, 100].map((n) => h("button", { type: "button", "data-more": n, disabled: params.episodes >= 500 || !has({ episodes: Math.min(500, params.episodes + n) }), onclick: () => set((now) => ({ episodes: Math.min(500, now.episodes + n) })) }, `+${n}`));
  const place = h("div", {}), far = h("div", {}), [ex, ey] = data.exact;
  root.replaceChildren(
    h("div", { class: "row keys" }, "Episodes", more, h("button", { type: "button", "data-more": "one", onclick: () => set({ episodes: 1 }), class: "quiet" }, "begin with one")),
    h("p", { class: "said", "aria-live": "polite" }, `${last} ${last === 1 ? "estimate" : "estimates"} by ${TITLES[params.credit]}: their mean is ${number(now.distance.at(-1), 2)} from the exact gradient. Variance of one estimate: ${number(now.variance)}${params.credit === "total" ? "" : `, ${number(now.variance / data.credits.total.variance, 2)} of the total return’s`}.`),
    place, far);
  const around = (i) => range([...names.flatMap((n) => data.credits[n].points.map((p) => p[i])), data.exact[i] + 2 * Math.sqrt(data.credits.total.covariance[i][i]), data.exact[i] - 2 * Math.sqrt(data.credits.total.covariance[i][i])]);
  place.append(legend([["one episode", k, "dot"], ["one standard deviation, exact", k, "solid"], ["running mean", 6, "solid"]]));
  const cloud = figure(place, "Each dot is the gradient that one episode suggests. The cross is the exact one.", { x: around(0), y: around(1), height: 440, square: true, xlabel: `∂J / ∂ ${data.parameters[0]}`, ylabel: `∂J / ∂ ${data.parameters[1]}`, title: `${last} gradient estimates around the exact gradient ${number(ex)}, ${number(ey)}` });
  cloud.rule({ x: 0 });
  cloud.rule({ y: 0 });
  cloud.ellipse(data.exact, now.covariance, { series: k, dash: false });
  const dots = cloud.dots(now.points.map(([x, y], i) => [x, y, `episode ${i + 1}: ${number(x)}, ${number(y)}`]), { series: k, r: last > 100 ? 3 : 4.5, class: last > 40 ? "faint" : "" });
  const spots = now.points.map(([a, b]) => [cloud.X(a), cloud.Y(b)]), old = seen.get(root) ?? [];
  seen.set(root, spots);
  if (!still) spots.forEach(([a, b], i) => old[i] && glide(dots.children[i], old[i][0] - a, old[i][1] - b));
  cloud.line(now.running, { series: 6, dash: false, class: "fine" });
  cloud.dots([now.running.at(-1)], { series: 6, r: 5 });
  const [x, y] = [cloud.X(ex), cloud.Y(ey)];
  cloud.inside.append(s("path", { class: "truth", d: `M${x - 9},${y - 9}l18,18m0,-18l-18,18` }));
  far.append(legend(names.map((n, i) => [TITLES[n], i])));
  const way = figure(far, "How far the mean of the first n estimates is from the exact gradient, for each credit on the same episodes.", { x: [1, Math.max(10, last)], y: range(names.map((n) => data.credits[n].distance), { zero: true }), height: 240, xlabel: "episodes", ylabel: "distance", title: "Distance of the running mean from the exact gradient" });
  names.forEach((n, i) => way.line(data.credits[n].distance.map((d, j) => [j + 1, d]), { series: i }));
  names.forEach((n, i) => way.dots([[last, data.credits[n].distance.at(-1)]], { series: i }));
  far.append(table(["credit", "variance", "mean, first", "mean, second", "distance now"], names.map((n) => [TITLES[n], data.credits[n].variance, ...data.credits[n].mean, data.credits[n].distance.at(-1)])));
  if (held) root.querySelector(`[data-more="${held}"]`)?.focus();
}
