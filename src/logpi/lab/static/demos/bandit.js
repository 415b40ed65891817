// Four columns to press, and what became of the policy.

const NAMES = ["A", "B", "C", "D"];
const BEAT = 260; // milliseconds between two moves that are played
const views = new WeakMap();

export function draw(root, data, tools) {
  if (!views.has(root)) views.set(root, build(root));
  const view = views.get(root), { number, still } = tools, moves = tools.params.moves ?? "", full = moves.length >= data.longest;
  const add = (more) => tools.set((now) => ({ moves: ((now.moves ?? "") + more).slice(0, data.longest) }));
  view.arms.forEach((arm, a) => { arm.button.onclick = () => add(String(a)); arm.button.disabled = full || !tools.has({ moves: moves + a }); });
  view.one.onclick = () => add("s");
  view.many.onclick = () => add("s".repeat(20));
  view.reset.onclick = () => tools.set({ moves: null });
  view.one.disabled = full || !tools.has({ moves: `${moves}s` });
  view.many.disabled = full || !tools.has({ moves: (moves + "s".repeat(20)).slice(0, data.longest) });
  view.reset.disabled = !moves;

  const played = tools.before && data.pi.length > tools.before.pi.length && same(tools.before, data) ? tools.before.pi.length : data.pi.length;
  let n = still ? data.pi.length : Math.min(played, data.pi.length), timer = 0;
  const beat = () => {
    frame(view, data, n, tools);
    if (n < data.pi.length) { n++; timer = setTimeout(beat, BEAT); }
  };
  if (n < data.pi.length) n++;
  beat();
  view.numbers.replaceChildren(tools.table(["move", "action", "reward", "Ψ", ...NAMES.map((x) => `π(${x}) after`)],
    data.actions.map((a, i) => [String(i + 1), NAMES[a], number(data.rewards[i]), number(data.psi[i]), ...data.pi[i + 1].map((p) => number(p))])));
  return () => clearTimeout(timer);
}

const same = (a, b) => a.rewards.every((x, i) => x === b.rewards[i] && a.actions[i] === b.actions[i]) && a.pi.every((row, i) => row.every((p, k) => p === b.pi[i][k]));

function build(root) {
  root.classList.add("bandit");
  const make = (tag, name, parent, words = "") => {
    const node = document.createElement(tag);
    node.className = name;
    node.textContent = words;
    parent.append(node);
    return node;
  };
  const row = make("div", "arms", root);
  const arms = NAMES.map((name, a) => {
    const button = make("button", `arm s${a}`, row);
    button.type = "button";
    const paid = make("span", "paid", button), column = make("span", "column", button), bar = make("span", "bar", column);
    const mean = make("span", "mean", column);
    const label = make("span", "name", button, name), share = make("span", "share", button), hidden = make("span", "hidden", button);
    return { button, paid, bar, mean, label, share, hidden };
  });
  const keys = make("div", "row keys", root);
  const key = (words, kind) => { const b = make("button", kind, keys, words); b.type = "button"; return b; };
  const one = key("Let the policy choose", "main"), many = key("Twenty more", ""), reset = key("Forget all", "quiet");
  const said = make("p", "said", root);
  said.setAttribute("aria-live", "polite");
  return { arms, one, many, reset, said, history: make("div", "history", root), numbers: make("div", "", root) };
}

/** The picture after n - 1 moves. */
function frame(view, data, n, { number, figure, legend, range }) {
  const pi = data.pi[n - 1], last = n - 2;
  view.arms.forEach((arm, a) => {
    arm.bar.style.blockSize = `${100 * pi[a]}%`;
    arm.share.textContent = `${(100 * pi[a]).toFixed(1)} %`;
    arm.hidden.textContent = data.means ? `pays ${number(data.means[a], 2)}` : "pays ?";
    const now = last >= 0 && data.actions[last] === a;
    arm.button.classList.toggle("now", now);
    arm.paid.textContent = now ? `${data.psi[last] > 0 ? "▲" : "▼"} ${data.rewards[last] > 0 ? "+" : ""}${number(data.rewards[last], 2)}` : "";
  });
  view.said.textContent = sentence(data, last, number);
  view.history.replaceChildren();
  const moves = Math.max(10, data.pi.length - 1);
  view.history.append(legend(NAMES.map((name, a) => [name, a])));
  const shares = figure(view.history, "The policy after each move.", { x: [0, moves], y: [0, 1], xlabel: "moves", ylabel: "π(a)", height: 220, title: `Probabilities of the four actions over ${n - 1} moves` });
  NAMES.forEach((_, a) => shares.line(data.pi.slice(0, n).map((row, i) => [i, row[a]]), { series: a }));
  NAMES.forEach((_, a) => shares.dots([[n - 1, pi[a]]], { series: a }));
  const paid = data.rewards.slice(0, n - 1);
  const rewards = figure(view.history, data.expected ? "What each move paid, and what the policy would be paid on average." : "What each move paid.", { x: [0, moves], y: range([data.rewards, data.means ?? [], -1, 1], { zero: true }), ylabel: "reward", xlabel: "moves", height: 180, title: `Rewards of ${n - 1} moves` });
  rewards.rule({ y: 0 });
  NAMES.forEach((name, a) => {
    const own = paid.map((r, i) => [i + 1, r, `${name}: ${number(r)}`]).filter((_, i) => data.actions[i] === a);
    rewards.bars(own, { series: a, width: 0.12 });
    rewards.dots(own, { series: a, r: moves > 60 ? 2 : 3.5 });
  });
  if (data.expected) rewards.line(data.expected.slice(0, n).map((y, i) => [i, y]), { series: 6 });
}

function sentence(data, last, number) {
  if (last < 0) return "Nothing is known yet: all four are equally likely. Press a column, or let the policy choose.";
  const a = data.actions[last], before = data.pi[last][a], after = data.pi[last + 1][a], up = after > before;
  const who = data.sampled[last] ? "The policy drew" : "You chose";
  return `${who} ${NAMES[a]}, which paid ${number(data.rewards[last], 2)}. Ψ is ${number(data.psi[last], 2)}, so ${NAMES[a]} becomes ${up ? "more" : "less"} likely: ${(100 * before).toFixed(1)} % → ${(100 * after).toFixed(1)} %.`;
}
