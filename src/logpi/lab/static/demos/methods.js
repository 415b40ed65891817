// The map of the methods, top to bottom; a node opens its page. Below: how far each goes from one batch, and what it gains.

const chosen = new WeakMap(), ROW = 32, LANE = 22, WORDS = ["psi", "objective", "average", "step"];

export function draw(root, data, tools) {
  const { h } = tools, map = h("div", { class: "map" }), detail = h("div", { class: "detail", "aria-live": "polite" });
  const held = document.activeElement?.dataset?.node;
  const choose = (name) => {
    chosen.set(root, name);
    for (const node of root.querySelectorAll("[data-node]")) node.setAttribute("aria-pressed", node.dataset.node === name);
    for (const row of root.querySelectorAll("tr[data-of]")) row.classList.toggle("now", row.dataset.of === name);
    detail.replaceChildren(...page(data.nodes, name, tools));
  };
  root.replaceChildren(h("div", { class: "two" }, map, detail), h("h2", {}, "One batch, every step"), steps(data, tools));
  draw_map(map, data.nodes, choose, tools);
  choose(chosen.get(root) ?? "ppo");
  if (held) map.querySelector(`[data-node="${held}"]`)?.focus();
}

/** [[name, lane], ...] from top to bottom: the child with most descendants goes straight on, after the others beside it. */
function places(nodes) {
  const children = (name) => Object.keys(nodes).filter((k) => nodes[k].parent === name);
  const size = (name) => 1 + children(name).reduce((n, k) => n + size(k), 0);
  const put = (name, lane) => {
    const [on, ...beside] = children(name).sort((a, b) => size(b) - size(a));
    return [[name, lane], ...beside.flatMap((k) => put(k, lane + 1)), ...(on ? put(on, lane) : [])];
  };
  return Object.keys(nodes).filter((k) => !nodes[k].parent).flatMap((k) => put(k, 0));
}

function draw_map(root, nodes, choose, { h, s }) {
  const order = places(nodes), lanes = 1 + Math.max(...order.map(([, lane]) => lane)), at = Object.fromEntries(order.map(([name, lane], row) => [name, [14 + lane * LANE, 18 + row * ROW]]));
  const width = Math.max(280, root.clientWidth || 400), height = order.length * ROW + 6, words = 14 + lanes * LANE;
  const edges = order.filter(([name]) => nodes[name].parent).map(([name]) => {
    const [[x1, y1], [x2, y2]] = [at[nodes[name].parent], at[name]];
    return s("path", { class: "edge", d: `M${x1},${y1}${x1 === x2 ? "" : `V${y2 - 14}Q${x1},${y2} ${x1 + 14},${y2}`}L${x2},${y2}` });
  });
  const dots = order.map(([name]) => {
    const go = () => choose(name), [x, y] = at[name], changed = nodes[name].changed.join(", ");
    return s("g", { class: "node", tabindex: "0", role: "button", "data-node": name, onclick: go, onkeydown: (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); go(); } } },
      s("rect", { x: words - 8, y: y - ROW / 2, width: width - words + 8, height: ROW, rx: 6 }), s("circle", { cx: x, cy: y, r: 6 }), s("text", { x: words, y: y + 5 }, name),
      s("text", { class: "changed", x: width - 8, y: y + 5, "text-anchor": "end" }, changed));
  });
  root.append(s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "The map of the methods: who came from whom, and which words changed" }, edges, dots), h("p", {}, h("small", {}, "On the right, the words that a method changes of the one it comes from.")));
}

function page(nodes, name, { h, code }) {
  const node = nodes[name], parent = nodes[node.parent];
  return [
    h("h2", {}, name), h("p", {}, node.title), h("pre", { tabindex: "0", role: "region", "aria-label": "formula" }, node.formula),
    h("table", { class: "four" }, h("tbody", {}, WORDS.map((word) => {
      const changed = node.changed.includes(word);
      return h("tr", { class: changed ? "changed" : "" }, h("th", { scope: "row" }, word), h("td", {}, node.words[word], changed && h("small", {}, `was ${parent.words[word]}`)));
    }))),
    h("p", {}, h("small", {}, parent ? `Comes from ${node.parent}; what it changes is marked.` : "Where it begins.")),
    h("details", {}, h("summary", {}, "The page itself"), h("pre", { tabindex: "0", role: "region", "aria-label": `source of ${name}` }, code(node.source.trimEnd()))),
  ];
}

function steps(data, { h, number }) {
  const names = Object.keys(data.steps), most = (key) => Math.max(1e-12, ...names.map((n) => Math.abs(data.steps[n][key])));
  const scale = { kl: most("kl"), surrogate: most("surrogate"), gain: most("gain") };
  const bar = (x, key, series) => {
    const node = h("span", { class: `meter s${series}${x < 0 ? " below" : ""}` });
    node.style.inlineSize = `${(100 * Math.abs(x)) / scale[key]}%`;
    return h("td", {}, h("span", { class: "gauge" }, h("span", {}, number(x, 2)), h("span", { class: "track" }, node)));
  };
  const head = ["method", "KL(old ‖ new)", "surrogate", "true J"].map((x) => h("th", { scope: "col" }, x));
  return h("figure", {}, h("table", { class: "gauges" }, h("thead", {}, h("tr", {}, head)),
    h("tbody", {}, names.map((n) => h("tr", { "data-of": n }, h("th", { scope: "row" }, n.replace("_", "_\u200b")), bar(data.steps[n].kl, "kl", 0), bar(data.steps[n].surrogate, "surrogate", 4), bar(data.steps[n].gain, "gain", 2))))),
    h("figcaption", {}, `From one policy (J = ${number(data.old.J)}) and one batch: how far each went, what it gained on the surrogate, and in J. The KL is the mean over the batch’s actions; surrogate and J are exact, over every episode there is. Methods that bound the KL bound it at ${number(data.delta)}. A light bar is a loss.`));
}
