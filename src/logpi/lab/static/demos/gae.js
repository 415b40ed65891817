// One advantage written in two ways, and what lambda does to the gradient's exact bias and variance.

export function draw(root, data, { h, legend, figure, range, number, table, params, set }) {
  const { episode: e, curve, here, lambdas } = data, held = document.activeElement?.dataset?.key;
  const best = Object.fromEntries(Object.keys(curve).map((k) => [k, curve[k][lambdas.indexOf(data.best)]]));
  const top = h("div", {}), forms = h("div", { class: "two" }, h("div", {}), h("div", {})), low = h("div", {});
  root.replaceChildren(
    h("p", { class: "said", "aria-live": "polite" }, `At λ = ${number(params.lam)} a gradient of ${params.rows} ${params.rows === 1 ? "episode" : "episodes"} is off by ${number(here.mse)} in mean square: ${number(here.bias)} is bias, ${number(here.variance)} variance. The best λ for this critic and this batch is ${number(data.best)}, with ${number(best.mse)}.`),
    h("div", { class: "row keys" }, h("button", { type: "button", "data-key": "best", class: "main", onclick: () => set({ lam: data.best }) }, "Take the best λ"), h("button", { type: "button", "data-key": "zero", onclick: () => set({ lam: 0 }) }, "λ = 0"), h("button", { type: "button", "data-key": "one", onclick: () => set({ lam: 1 }) }, "λ = 1")),
    legend([["squared bias", 1], ["variance of the batch", 0], ["their sum", 6, "solid"]]), top, forms, low);

  const plot = figure(top, "Squared error of the gradient over λ, summed over both parameters; exact, from every episode there is.", { x: [0, 1], y: range([curve.mse], { zero: true, pad: 0.1 }), height: 320, xlabel: "λ", ylabel: "squared error", title: `Bias and variance over lambda: the sum is least at ${number(data.best)}` });
  plot.rule({ x: params.lam });
  const over = (name) => lambdas.map((l, k) => [l, curve[name][k]]);
  plot.line(over("bias"), { series: 1 });
  plot.line(over("variance"), { series: 0 });
  plot.line(over("mse"), { series: 6, class: "bold", dash: false });
  [["bias", 1], ["variance", 0], ["mse", 6]].forEach(([name, series]) => plot.dots([[params.lam, here[name], `${name} ${number(here[name])}`]], { series, r: 5 }));
  plot.dots([[data.best, best.mse, "best"]], { series: 2, r: 7 });
  plot.text(data.best, best.mse, `best λ ${number(data.best)}`, { series: 2, dy: -14, anchor: data.best > 0.85 ? "end" : data.best < 0.15 ? "start" : "middle" });

  const bars = (place, weights, names, o) => {
    const weighed = figure(place, o.caption, { y: [0, 1.12], names, height: 240, xlabel: o.xlabel, ylabel: "weight", title: o.caption });
    weighed.bars(weights.map((w, k) => [k, w, number(w)]), { series: o.series, width: 0.6 });
    weights.forEach((w, k) => weighed.text(k, w, number(w, 2), { dy: -6, anchor: "middle", series: o.series }));
  };
  bars(forms.firstChild, e.weights, e.delta.map((d, k) => [`δ${sub(k)}`, number(d, 2)]), { series: 4, xlabel: "the TD errors of an episode, from its first action on", caption: `Their sum by the weights (γλ)ˡ is Â = ${number(e.gae)}.` });
  bars(forms.lastChild, e.mixture, e.n_step.map((a, k) => [`A⁽${sup(k + 1)}⁾`, number(a, 2)]), { series: 3, xlabel: "its advantages from n rewards and the critic", caption: `Their mixture by (1 − λ) λⁿ⁻¹, the last with all that is left, is the same Â = ${number(e.gae)}.` });

  const far = figure(low, "The best λ for each error of the critic, in standard deviations of Q, at this γ and this batch.", { x: [0, data.errors.at(-1)], y: [0, 1.05], height: 220, xlabel: "error of the critic", ylabel: "best λ", title: "The best lambda over the error of the critic" });
  far.line(data.errors.map((x, k) => [x, data.best_by_error[k]]), { series: 2, class: "bold", dash: false });
  far.dots([[params.error, data.best, "this critic"]], { series: 2, r: 7 });
  low.append(table(["λ", "squared bias", "variance", "sum"], lambdas.flatMap((l, k) => (k % 10 ? [] : [[l, curve.bias[k], curve.variance[k], curve.mse[k]]]))),
    table(["l", "reward", "V, as the critic says", "δ", "(γλ)ˡ", "n", "A of n rewards", "its weight"], e.delta.map((d, k) => [String(k), e.rewards[k], e.values[k], d, e.weights[k], String(k + 1), e.n_step[k], e.mixture[k]]), "The episode"));
  if (held) root.querySelector(`[data-key="${held}"]`)?.focus();
}

const sub = (k) => "₀₁₂₃₄₅₆₇₈₉"[k], sup = (k) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[k];
