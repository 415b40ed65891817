// For each action that may be sampled: how the four probabilities are pushed, by the return and by the advantage.

const TITLES = { return: "Weighed by the return", advantage: "Weighed by the advantage" };

export function draw(root, data, { h, legend, figure, range, number, table }) {
  const kinds = Object.keys(data.credits), two = h("div", { class: "two" }), every = range(kinds.map((k) => data.credits[k].change), { zero: true });
  const ratio = data.credits.return.variance / data.credits.advantage.variance;
  root.replaceChildren(h("p", { class: "said" }, `All four returns are positive, so the return pushes up whatever was sampled, the worst action too. The advantage pushes up only what beats V = ${number(data.value)}. On average both are the same update; one sample of it is ${number(ratio, 2)} times noisier by the return.`),
    legend(data.actions.map((a, i) => [`${a}: π ${(100 * data.pi[i]).toFixed(0)} %, pays ${number(data.returns[i])}`, i])), two);
  const boxes = kinds.map((k) => h("div", {}, h("h2", {}, TITLES[k])));
  two.append(...boxes);
  kinds.forEach((k, i) => {
    const box = boxes[i], credit = data.credits[k];
    pushes(box, credit.change, every, "How each probability moves when this action is sampled.", credit.psi.map((psi) => `Ψ ${number(psi, 2)}`), { figure, data, title: TITLES[k] });
  });
  const means = kinds.map(() => h("div", {}));
  root.append(h("div", { class: "two" }, means));
  kinds.forEach((k, i) => {
    const box = means[i];
    const plot = figure(box, "The expected term of the update.", { x: [-0.6, 3.6], y: range(kinds.map((c) => data.credits[c].mean), { zero: true }), height: 150, ylabel: "on average", title: `${TITLES[k]}, on average` });
    strip(plot);
    plot.rule({ y: 0 });
    data.actions.forEach((_, a) => plot.bars([[a, data.credits[k].mean[a]]], { series: a, width: 0.5 }));
  });
  root.append(table(["credit", "sampled", "Ψ", ...data.actions.map((a) => `Δπ(${a})`)], kinds.flatMap((k) => data.actions.map((a, i) => [k, a, data.credits[k].psi[i], ...data.credits[k].change[i]]))));
}

function pushes(root, change, y, caption, labels, { figure, data, title }) {
  const plot = figure(root, caption, { x: [-0.6, 3.6], y, height: 280, ylabel: "change of π", title });
  strip(plot);
  plot.rule({ y: 0 });
  change.forEach((row, i) => row.forEach((v, a) => plot.bars([[i + (a - 1.5) * 0.2, v]], { series: a, width: 0.17 })));
  data.actions.forEach((a, i) => plot.svg.append(plot.text(i, y[0], a, { dy: 18, anchor: "middle", series: i }), plot.text(i, y[0], labels[i], { dy: 33, anchor: "middle" })));
}

const strip = (plot) => plot.svg.querySelectorAll(".axes text[text-anchor=middle]").forEach((x) => x.remove());
