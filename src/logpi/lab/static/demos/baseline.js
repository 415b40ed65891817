// The same learners twice: with and without a baseline. Above how they learn, below how noisy their first gradient is.

const WORDS = { without: "plain return", with: "return minus baseline" };

export function draw(root, data, { h, legend, figure, range, number, table }) {
  const kinds = Object.keys(data.curves), up = h("div", {}), down = h("div", { class: "two" }), { gradient: g } = data;
  const times = g.without.variance / g.with.variance;
  root.replaceChildren(h("p", { class: "said" }, `With the baseline the variance of an update is ${number(times, 2)} times smaller, and its mean is ${same(g) ? "the same" : "not the same"}.`), legend(kinds.map((k, i) => [WORDS[k], i])), up, down);
  const n = data.curves.with.mean.length - 1;
  const plot = figure(up, "Expected reward of a pull, less the level: the mean over learners with its 95 % interval; thin lines are learners.", { x: [0, n], y: range([0, data.best]), xlabel: "updates", ylabel: "expected reward", height: 320, title: `Learning with and without a baseline: after ${n} updates ${number(data.curves.with.mean.at(-1))} against ${number(data.curves.without.mean.at(-1))}` });
  plot.rule({ y: data.best });
  plot.text(n, data.best, "the best arm", { dy: 16, anchor: "end" });
  kinds.forEach((k, i) => {
    const { each, mean, half } = data.curves[k], xs = mean.map((_, j) => j);
    each.forEach((y) => plot.line(y.map((v, j) => [j, v]), { series: i, class: "thin", dash: false }));
    plot.band(xs, mean.map((m, j) => m - half[j]), mean.map((m, j) => m + half[j]), { series: i });
    plot.line(mean.map((v, j) => [j, v]), { series: i, class: "bold" });
  });
  const left = h("div", {}), right = h("div", {});
  down.append(left, right);
  const noisy = figure(left, "Variance of one learner’s first update: exact, and measured on 500 drawn batches (light).", { y: range(kinds.flatMap((k) => [g[k].variance, g[k].measured]), { zero: true, pad: 0.12 }), names: kinds.map((k) => [WORDS[k]]), ylabel: "variance", height: 240, title: "Variance of the gradient, exact and measured" });
  kinds.forEach((k, i) => { noisy.bars([[i - 0.2, g[k].variance]], { series: i, width: 0.36 }); noisy.bars([[i + 0.2, g[k].measured]], { series: i, width: 0.36, class: "faint" }); noisy.text(i, Math.max(g[k].variance, g[k].measured), number(g[k].variance), { dy: -6, anchor: "middle", series: i }); });
  const mean = figure(right, "Mean of that gradient for each arm’s logit, from every batch there is: a baseline does not move it.", { y: range(kinds.map((k) => g[k].mean), { zero: true, pad: 0.1 }), names: data.arms.map((r) => [number(r)]), xlabel: "what the arm pays", ylabel: "mean gradient", height: 240, title: "Mean gradient with and without" });
  mean.rule({ y: 0 });
  kinds.forEach((k, i) => mean.bars(g[k].mean.map((v, a) => [a + 0.4 * i - 0.2, v, `arm ${a + 1}: ${number(v)}`]), { series: i, width: 0.36 }));
  root.append(table(["", "variance, exact", "variance, measured", ...data.arms.map((r, a) => `mean, arm ${a + 1} (pays ${r})`)], kinds.map((k) => [WORDS[k], g[k].variance, g[k].measured, ...g[k].mean])));
}

const same = (g) => g.with.mean.every((x, i) => Math.abs(x - g.without.mean[i]) < 1e-9);
