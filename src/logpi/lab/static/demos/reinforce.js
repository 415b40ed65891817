// A walk on a grid, one step at a time, and what each step's term does to the policy of the cell it was taken in.

const views = new WeakMap(), ARROWS = ["↑", "↓", "←", "→"], BEAT = 650;

export function draw(root, data, tools) {
  const view = views.get(root) ?? { t: 0, of: "" }, text = JSON.stringify(data.steps);
  views.set(root, view);
  if (view.of !== text) Object.assign(view, { of: text, t: 0 });
  const { h } = tools, grid = h("div", { class: "grid" }), detail = h("div", { class: "detail" }), rows = h("div", {});
  let timer = 0;
  const show = (t) => { view.t = Math.max(0, Math.min(data.steps.length - 1, t)); paint(); };
  const paint = () => {
    grid.replaceChildren(board(data, view.t, tools));
    detail.replaceChildren(...told(data.steps[view.t], view.t, data, tools));
    slider.value = view.t;
    slider.setAttribute("aria-valuetext", `step ${view.t + 1} of ${data.steps.length}`);
    for (const row of rows.querySelectorAll("tr[data-t]")) row.classList.toggle("now", +row.dataset.t === view.t);
  };
  const stop = () => { clearInterval(timer); timer = 0; play.textContent = "Play"; };
  const play = h("button", { type: "button", class: "main", onclick: () => {
    if (timer) return stop();
    if (view.t === data.steps.length - 1) show(0);
    play.textContent = "Pause";
    timer = setInterval(() => (view.t === data.steps.length - 1 ? stop() : show(view.t + 1)), BEAT);
  } }, "Play");
  const slider = h("input", { type: "range", min: 0, max: data.steps.length - 1, step: 1, "aria-label": "step", oninput: () => { stop(); show(+slider.value); } });
  root.replaceChildren(h("div", { class: "two" }, grid,
    h("div", {}, h("div", { class: "row keys" }, play, h("button", { type: "button", onclick: () => { stop(); show(view.t - 1); } }, "‹ Back"), h("button", { type: "button", onclick: () => { stop(); show(view.t + 1); } }, "Step ›")), slider, detail)), rows);
  rows.append(steps(data, tools));
  spread(rows, data, tools);
  paint();
  return stop;
}

function board(data, t, { h, s, number, glide, still }) {
  const n = data.size, cell = 96, middle = (k) => [(k % n) * cell + cell / 2, Math.floor(k / n) * cell + cell / 2];
  const goal = n * n - 1, now = data.steps[t], path = [data.steps[0].state, ...data.steps.slice(0, t + 1).map((x) => x.next)];
  const fans = data.policy.before.map((pi, k) => (k === goal ? null : fan(s, middle(k), pi, cell)));
  const agent = s("circle", { class: "agent", cx: middle(now.next)[0], cy: middle(now.next)[1], r: 13 });
  if (!still) glide(agent, ...[0, 1].map((k) => middle(now.state)[k] - middle(now.next)[k]));
  const svg = s("svg", { class: "board", viewBox: `-2 -2 ${n * cell + 4} ${n * cell + 4}`, role: "img", "aria-label": `Step ${t + 1}: from cell ${now.state + 1} ${data.actions[now.action]}, paid ${number(now.reward)}` },
    Array.from({ length: n * n }, (_, k) => s("rect", { class: `cell${k === goal ? " goal" : ""}${k === now.state ? " here" : ""}`, x: (k % n) * cell, y: Math.floor(k / n) * cell, width: cell, height: cell })),
    s("text", { class: "goal-name", x: middle(goal)[0], y: middle(goal)[1] + 34, "text-anchor": "middle" }, "goal"), fans,
    s("path", { class: "walk", d: path.map((k, i) => `${i ? "L" : "M"}${middle(k)[0]},${middle(k)[1]}`).join("") }),
    agent);
  return h("figure", {}, svg, h("figcaption", {}, "The wedges are π in each cell; the dot has just moved."));
}

/** a wedge for each direction, as long as it is likely */
function fan(s, [x, y], pi, cell) {
  return pi.map((p, a) => {
    const [dx, dy] = [[0, -1], [0, 1], [-1, 0], [1, 0]][a], far = 14 + p * (cell / 2 - 16), w = 6;
    return s("path", { class: "wedge", d: `M${x + dx * 10 - dy * w},${y + dy * 10 - dx * w}L${x + dx * far},${y + dy * far}L${x + dx * 10 + dy * w},${y + dy * 10 + dx * w}Z` });
  });
}

function told(x, t, data, { h, number, figure }) {
  const up = x.after[x.action] > x.before[x.action], place = h("div", {});
  requestAnimationFrame(() => {
    const plot = figure(place, "π in this cell: before (light) and after this step’s term alone.", { y: [0, 1.05 * Math.max(0.5, ...x.before, ...x.after)], names: data.actions.map((name, a) => [`${ARROWS[a]} ${name}`]), height: 190, ylabel: "π(a | s)", title: "Probabilities before and after" });
    plot.bars(x.before.map((p, a) => [a - 0.19, p]), { series: 7, width: 0.34, class: "faint" });
    plot.bars(x.after.map((p, a) => [a + 0.19, p]), { series: 0, width: 0.34 });
  });
  return [h("p", { class: "said", "aria-live": "polite" }, `Step ${t + 1} of ${data.steps.length}: it went ${data.actions[x.action]} and was paid ${number(x.reward)}. The return credited to that is ${number(x.credit)}, so going ${data.actions[x.action]} from here becomes ${up ? "more" : "less"} likely: ${pc(x.before[x.action])} → ${pc(x.after[x.action])}.`), place];
}

const pc = (p) => `${(100 * p).toFixed(1)} %`;

function steps(data, { h, table, number }) {
  const found = table(["step", "cell", "action", "reward", "credit G", "π before", "π after"], data.steps.map((x, t) => [String(t + 1), String(x.state + 1), data.actions[x.action], number(x.reward), number(x.credit), pc(x.before[x.action]), pc(x.after[x.action])]), "Every step of the episode");
  found.querySelectorAll("tbody tr").forEach((row, t) => { row.dataset.t = t; });
  return h("div", {}, found);
}

function spread(root, data, { figure, range, number }) {
  const { each, mean, std } = data.returns, [low, high] = range(each, { pad: 0.02 }), bins = 24, width = (high - low) / bins;
  const counts = Array(bins).fill(0);
  for (const g of each) counts[Math.min(bins - 1, Math.floor((g - low) / width))]++;
  const plot = figure(root, `Returns of ${each.length} episodes of this policy: mean ${number(mean)}, standard deviation ${number(std)}. J before the update ${number(data.J.before)}, after it ${number(data.J.after)}.`, { x: [low, high], y: [0, 1.1 * Math.max(...counts)], height: 200, xlabel: "discounted return", ylabel: "episodes", title: "Histogram of returns" });
  plot.bars(counts.map((c, i) => [low + (i + 0.5) * width, c]), { series: 0, width: 0.9 * width });
  plot.rule({ x: mean });
  plot.text(mean, 1.05 * Math.max(...counts), "mean", { dx: 6, series: 6 });
}
