// Answers of a tiny language model, token by token: shaded by credit, with each token's probability before and after the next step.

/** A GRPO step takes a twentieth of a second: those on the way are shown, two by two. */
export function way(params, before) {
  const begun = ["group", "lr", "scale"].every((x) => params[x] === before[x]) ? (before.step ?? 0) : 0;
  return Array.from({ length: Math.max(0, Math.ceil((params.step - begun) / 2) - 1) }, (_, k) => ({ ...params, step: begun + 2 * (k + 1) }));
}

export function draw(root, data, { h, legend, figure, number, table, set, has }) {
  const held = document.activeElement?.dataset?.key, n = data.expected.length - 1;
  const step = (k) => set({ step: Math.max(0, Math.min(20, k)) });
  const key = (name, words, go, kind = "") => h("button", { type: "button", class: kind, "data-key": name, disabled: name === "step" && (n >= 20 || !has({ step: n + 1 })), onclick: go }, words);
  const most = Math.max(1e-9, ...data.answers.flatMap((a) => a.psi.map(Math.abs)));
  root.replaceChildren(
    h("div", { class: "row keys" }, key("step", "Take a step of GRPO", () => step(n + 1), "main"), key("back", "‹ Back", () => step(n - 1)), key("zero", "From the start", () => step(0), "quiet")),
    h("p", { class: "said", "aria-live": "polite" }, `After ${n} ${n === 1 ? "step" : "steps"} the model earns ${number(data.expected.at(-1), 2)} on average and says “${data.right}” with probability ${number(data.right_probability.at(-1), 2)}. The next step brings it to ${number(data.next.reward, 2)}, at KL ${number(data.kl, 2)}.`),
    h("p", {}, h("small", {}, "Asked: "), h("code", {}, data.prompt), h("small", {}, " Right: "), h("code", {}, data.right)),
    legend([["likelier after the step", 0, "bar"], ["less likely", 1, "bar"]]), answers(data, most, { h, number }));
  const two = h("div", { class: "two" }, h("div", {}), h("div", {}));
  root.append(two);
  const xs = [0, Math.max(5, n + 1)];
  const earned = figure(two.firstChild, "Expected reward, exact: every answer it could give, times its probability.", { x: xs, y: [0, 1.05], height: 230, xlabel: "steps", ylabel: "E[R]", title: "Expected reward over the steps taken" });
  earned.line(data.expected.map((y, k) => [k, y]), { series: 0 });
  earned.dots(data.expected.map((y, k) => [k, y]), { series: 0 });
  earned.dots([[n + 1, data.next.reward, "after the next step"]], { series: 0, class: "faint", r: 5 });
  const sure = figure(two.lastChild, `Probability of saying “${data.right}”, exact.`, { x: xs, y: [0, 1.05], height: 230, xlabel: "steps", ylabel: "π(right)", title: "Probability of the right answer over the steps taken" });
  sure.line(data.right_probability.map((y, k) => [k, y]), { series: 2, dash: false });
  sure.dots(data.right_probability.map((y, k) => [k, y]), { series: 2 });
  sure.dots([[n + 1, data.next.right, "after the next step"]], { series: 2, class: "faint", r: 5 });
  root.append(table(["answer", "token", "reward", "Ψ", "weight", "log π", "log π after"], data.answers.flatMap((a, i) => a.tokens.map((t, k) => [String(i + 1), t, number(a.reward), a.psi[k], a.weight[k], a.log_pi[k], a.after[k]]))));
  if (held) root.querySelector(`[data-key="${held}"]:not(:disabled)`)?.focus();
}

function answers(data, most, { h, number }) {
  return h("ol", { class: "answers" }, data.answers.map((a) => h("li", {},
    h("span", { class: "tokens" }, a.tokens.map((t, k) => {
      const up = a.after[k] > a.log_pi[k];
      const chip = h("span", { class: `token s${up ? 0 : 1}`, title: `Ψ ${number(a.psi[k])} · π ${number(Math.exp(a.log_pi[k]))} → ${number(Math.exp(a.after[k]))}` }, t, h("small", {}, `${up ? "▲" : "▼"} ${pc(a.after[k])}`));
      chip.style.setProperty("--much", `${Math.round((40 * Math.abs(a.psi[k])) / most)}%`);
      return chip;
    })),
    h("span", { class: "paid" }, `R ${number(a.reward, 2)}`), h("small", {}, `Ψ ${number(a.psi[0], 2)}`))));
}

const pc = (log) => `${(100 * Math.exp(log)).toFixed(0)} %`;
