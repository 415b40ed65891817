// Left: a policy chased round the triangle of mixtures, and its average, which comes to rest. Right: the argmax that flips.

const CORNERS = [[0.5, Math.sqrt(3) / 2], [0, 0], [1, 0]];
const spot = (pi) => [0, 1].map((k) => pi.reduce((sum, p, a) => sum + p * CORNERS[a][k], 0));

export function draw(root, data, { h, legend, figure, trace, number, table, params, before, still }) {
  const { chase, flip, actions } = data, top = h("div", { class: "two" }), low = h("div", {}), n = chase.path.length;
  const again = !still && h("button", { type: "button", class: "main", onclick: () => watch() }, "Watch the chase");
  root.replaceChildren(h("p", { class: "said" }, `Whoever always plays one of them earns ${number(data.pure[0])} from an opponent who knows. After ${n} rounds the average of the policies earns ${number(chase.worst_of_average.at(-1), 2)} at worst; the even mixture earns ${number(data.mixed, 2)}.`),
    h("div", { class: "row keys" }, again), legend([["the policy of the moment", 0, "solid"], ["the average of its policies", 1, "solid"], ["the average never earns less", 7]]), top, low);
  const left = h("div", {}), right = h("div", {});
  top.append(left, right);
  const map = figure(left, "Every mixture of the three is a point; the cross cannot be exploited.", { x: [-0.08, 1.08], y: [-0.12, 1], height: 340, square: true, axes: false, title: "Path of the policy and of its average over the triangle of mixtures" });
  map.line(CORNERS, { series: 7, closed: true, dash: false, class: "fine" });
  actions.forEach((name, a) => map.text(...CORNERS[a], name, { dy: a ? 18 : -8, anchor: "middle" }));
  const lines = [map.line(chase.path.map(spot), { series: 0, class: "fine", dash: false }), map.line(chase.average.map(spot), { series: 1, class: "bold", dash: false })];
  map.dots([spot(chase.path.at(-1))], { series: 0, r: 6 });
  map.dots([spot(chase.average.at(-1))], { series: 1, r: 6 });
  const [x, y] = spot([1 / 3, 1 / 3, 1 / 3]);
  map.line([[x - 0.02, y], [x + 0.02, y]], { series: 6 });
  map.line([[x, y - 0.02], [x, y + 0.02]], { series: 6 });
  const worst = figure(right, "What each earns against the best reply to it.", { x: [1, Math.max(2, n)], y: [-1.05, 0.1], height: 340, xlabel: "rounds", ylabel: "at worst", title: "Worst earnings of the policy and of its average" });
  worst.rule({ y: 0 });
  lines.push(...[chase.worst, chase.worst_of_average].map((ys, i) => worst.line(ys.map((v, k) => [k + 1, v]), { series: i, dash: false, class: i ? "bold" : "" })));
  worst.line(chase.bound.map((v, k) => [k + 1, v]), { series: 7 });
  low.append(h("h2", {}, "An argmax that flips"), legend([["greedy", 2], ["softmax", 3]]));
  const turn = figure(low, `Two actions of nearly equal worth. A change by ${number(params.tiny, 2)} at the tie, and the greedy choice jumps from ${flip.before.greedy ? "second" : "first"} to ${flip.after.greedy ? "second" : "first"}; the softmax moves from ${pc(flip.before.soft)} to ${pc(flip.after.soft)} (KL ${number(flip.kl, 2)}).`, { x: [flip.gap[0], flip.gap.at(-1)], y: [-0.05, 1.05], height: 240, xlabel: "worth of the second less that of the first", ylabel: "π(second)", title: "Greedy and softmax choice as the worth changes" });
  turn.rule({ x: 0 });
  turn.line(flip.gap.flatMap((g, k) => (k && flip.greedy[k] !== flip.greedy[k - 1] ? [[flip.gap[k - 1], flip.greedy[k]]] : []).concat([[g, flip.greedy[k]]])), { series: 2 });
  turn.line(flip.gap.map((g, k) => [g, flip.soft[k]]), { series: 3 });
  root.append(table(["policy", "earns at worst"], [...actions.map((a, i) => [`always ${a}`, data.pure[i]]), ["a third each", data.mixed], ["average of the chase", chase.worst_of_average.at(-1)]]));
  let going = [];
  const stop = () => going.forEach((x) => x.cancel());
  const watch = () => {
    stop();
    going = still ? [] : lines.map((line) => trace(line, 4000));
  };
  if (!before) watch();
  return stop;
}

const pc = (p) => `${(100 * p).toFixed(1)} %`;
