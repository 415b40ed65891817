// Left: a policy chased round the triangle of mixtures, and its average, which comes to rest. Right: the argmax that flips.

const CORNERS = [[0.5, Math.sqrt(3) / 2], [0, 0], [1, 0]];
const spot = (pi) => [0, 1].map((k) => pi.reduce((sum, p, a) => sum + p * CORNERS[a][k], 0));

export function draw(root, data, { h, legend, figure, number, table, params }) {
  const { chase, flip, actions } = data, top = h("div", {}), low = h("div", { class: "two" }), n = chase.path.length;
  root.replaceChildren(h("p", { class: "said" }, `Whoever always plays one of them earns ${number(data.pure[0])} from an opponent who knows. After ${n} rounds the average of the policies earns ${number(chase.worst_of_average.at(-1), 2)} at worst; the even mixture earns ${number(data.mixed, 2)}.`),
    legend([["the policy of the moment", 0], ["the average of its policies", 1], ["never below", 7]]), top, low);
  const map = figure(top, "Every mixture of the three is a point; the cross cannot be exploited.", { x: [-0.1, 1.1], y: [-0.1, 0.98], height: 400, square: true, axes: false, title: "Path of the policy and of its average over the triangle of mixtures" });
  map.line(CORNERS, { series: 7, closed: true, dash: false, class: "fine" });
  actions.forEach((name, a) => map.text(...CORNERS[a], name, { dy: a ? 18 : -8, anchor: "middle" }));
  map.line(chase.path.map(spot), { series: 0, class: "fine", dash: false });
  map.line(chase.average.map(spot), { series: 1, class: "bold", dash: false });
  map.dots([spot(chase.path.at(-1))], { series: 0, r: 6 });
  map.dots([spot(chase.average.at(-1))], { series: 1, r: 6 });
  const [x, y] = spot([1 / 3, 1 / 3, 1 / 3]);
  map.line([[x - 0.02, y], [x + 0.02, y]], { series: 6 });
  map.line([[x, y - 0.02], [x, y + 0.02]], { series: 6 });
  const left = h("div", {}), right = h("div", {});
  low.append(left, right);
  const worst = figure(left, "What each earns against the best reply to it.", { x: [1, Math.max(2, n)], y: [-1.05, 0.1], height: 240, xlabel: "rounds", ylabel: "at worst", title: "Worst earnings of the policy and of its average" });
  worst.rule({ y: 0 });
  [chase.worst, chase.worst_of_average].forEach((ys, i) => worst.line(ys.map((v, k) => [k + 1, v]), { series: i, dash: false, class: i ? "bold" : "" }));
  worst.line(chase.bound.map((v, k) => [k + 1, v]), { series: 7 });
  right.append(legend([["greedy", 2], ["softmax", 3]]));
  const turn = figure(right, `Two actions of nearly equal worth. A change by ${number(params.tiny, 2)} at the tie, and the greedy choice jumps from ${flip.before.greedy ? "second" : "first"} to ${flip.after.greedy ? "second" : "first"}; the softmax moves from ${pc(flip.before.soft)} to ${pc(flip.after.soft)} (KL ${number(flip.kl, 2)}).`, { x: [flip.gap[0], flip.gap.at(-1)], y: [-0.05, 1.05], height: 240, xlabel: "worth of the second less that of the first", ylabel: "π(second)", title: "Greedy and softmax choice as the worth changes" });
  turn.rule({ x: 0 });
  turn.line(flip.gap.map((g, k) => [g, flip.greedy[k]]), { series: 2 });
  turn.line(flip.gap.map((g, k) => [g, flip.soft[k]]), { series: 3 });
  root.append(table(["policy", "earns at worst"], [...actions.map((a, i) => [`always ${a}`, data.pure[i]]), ["a third each", data.mixed], ["average of the chase", chase.worst_of_average.at(-1)]]));
}

const pc = (p) => `${(100 * p).toFixed(1)} %`;
