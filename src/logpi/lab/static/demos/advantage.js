// For each action that may be sampled: how the four probabilities are pushed, by the return and by the advantage.

const TITLES = { return: "Weighed by the return", advantage: "Weighed by the advantage" };

export function draw(root, data, { h, legend, figure, range, number, table }) {
  const kinds = Object.keys(data.credits), two = h("div", { class: "two" }), every = range(kinds.map((k) => data.credits[k].change), { zero: true });
  const ratio = data.credits.return.variance / data.credits.advantage.variance;
  root.replaceChildren(h("p", { class: "said" }, `All four returns are positive, so the return pushes up whatever was sampled, the worst action too. The advantage pushes up only what beats V = ${number(data.value)}. On average both are the same update; ${Number.isFinite(ratio) ? `by the return its variance is ${number(ratio, 2)} times as large` : "by the advantage it is 0 in every sample, for all pay the same"}.`),
    legend(data.actions.map((a, i) => [`${a}: π ${(100 * data.pi[i]).toFixed(0)} %, pays ${number(data.returns[i])}`, i, "bar"])), two);
  const boxes = kinds.map((k) => h("div", {}, h("h2", {}, TITLES[k])));
  two.append(...boxes);
  kinds.forEach((k, i) => {
    const { change, psi } = data.credits[k], names = data.actions.map((a, j) => [a, `Ψ ${number(psi[j], 2)}`]);
    const plot = figure(boxes[i], "How each probability moves when this action is sampled.", { y: every, names, height: 300, xlabel: "the action that was sampled", ylabel: "change of π", title: TITLES[k] });
    plot.rule({ y: 0 });
    change.forEach((row, j) => row.forEach((v, a) => plot.bars([[j + (a - 1.5) * 0.2, v, `π(${data.actions[a]}): ${number(v)}`]], { series: a, width: 0.17 })));
  });
  const means = kinds.map(() => h("div", {}));
  root.append(h("div", { class: "two" }, means));
  kinds.forEach((k, i) => {
    const plot = figure(means[i], "The expected term of the update.", { y: range(kinds.map((c) => data.credits[c].mean), { zero: true, pad: 0.1 }), names: data.actions.map((a) => [a]), height: 170, ylabel: "on average", title: `${TITLES[k]}, on average` });
    plot.rule({ y: 0 });
    data.actions.forEach((_, a) => plot.bars([[a, data.credits[k].mean[a]]], { series: a, width: 0.5 }));
  });
  root.append(table(["credit", "sampled", "Ψ", ...data.actions.map((a) => `Δπ(${a})`)], kinds.flatMap((k) => data.actions.map((a, i) => [k, a, data.credits[k].psi[i], ...data.credits[k].change[i]]))));
}
