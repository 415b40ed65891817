// The map of the methods, top to bottom; a node opens its page. Below: how far each goes from one batch, and what it gains.

const chosen = new WeakMap(), ROW = 46, WORDS = ["psi", "objective", "average", "step"];

export function draw(root, data, tools) {
  const { h } = tools, map = h("div", { class: "map" }), detail = h("div", { class: "detail", "aria-live": "polite" });
  const held = document.activeElement?.dataset?.node;
  const choose = (name) => {
    chosen.set(root, name);
    for (const node of map.querySelectorAll("[data-node]")) node.setAttribute("aria-pressed", node.dataset.node === name);
    detail.replaceChildren(...page(data.nodes, name, tools));
  };
  root.replaceChildren(h("div", { class: "two" }, map, detail), h("h2", {}, "One batch, every step"), steps(data, tools));
  draw_map(map, data.nodes, choose, tools);
  choose(chosen.get(root) ?? "ppo");
  if (held) map.querySelector(`[data-node="${held}"]`)?.focus();
}

/** {name: [column, row]}: the child with most descendants goes straight on, the others beside it. */
function places(nodes) {
  const children = (name) => Object.keys(nodes).filter((k) => nodes[k].parent === name);
  const size = (name) => 1 + children(name).reduce((n, k) => n + size(k), 0);
  const found = {}, taken = new Set();
  const put = (name, column, row) => {
    while (taken.has(`${column},${row}`)) column++;
    taken.add(`${column},${row}`);
    found[name] = [column, row];
    children(name).sort((a, b) => size(b) - size(a)).forEach((k) => put(k, column, row + 1));
  };
  Object.keys(nodes).filter((k) => !nodes[k].parent).forEach((k) => put(k, 0, 0));
  return found;
}

function draw_map(root, nodes, choose, { s }) {
  const at = places(nodes), columns = 1 + Math.max(...Object.values(at).map(([c]) => c)), rows = 1 + Math.max(...Object.values(at).map(([, r]) => r));
  const width = Math.max(280, root.clientWidth || 400), gap = (width - 110) / Math.max(1, columns - 1), X = ([c]) => 14 + c * gap, Y = ([, r]) => 20 + r * ROW;
  const edges = Object.entries(nodes).filter(([, n]) => n.parent).map(([name, n]) => {
    const a = at[n.parent], b = at[name], [x1, y1, x2, y2] = [X(a), Y(a), X(b), Y(b)];
    return s("path", { class: "edge", d: x1 === x2 ? `M${x1},${y1}V${y2}` : `M${x1},${y1}C${x1},${y2} ${x1},${y2} ${x2},${y2}` });
  });
  const dots = Object.keys(nodes).map((name) => {
    const go = () => choose(name), [x, y] = [X(at[name]), Y(at[name])];
    return s("g", { class: "node", tabindex: "0", role: "button", "data-node": name, "aria-label": name, onclick: go, onkeydown: (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); go(); } } },
      s("rect", { x: x - 13, y: y - 16, width: 108, height: 32, rx: 6 }), s("circle", { cx: x, cy: y, r: 6 }), s("text", { x: x + 13, y: y + 5 }, name));
  });
  root.append(s("svg", { width, height: rows * ROW, viewBox: `0 0 ${width} ${rows * ROW}`, role: "group", "aria-label": "The map of the methods" }, edges, dots));
}

function page(nodes, name, { h, shown, code }) {
  const node = nodes[name], parent = nodes[node.parent], source = shown.find((x) => x.module === `logpi.methods.${name}`);
  return [
    h("h2", {}, name), h("p", {}, node.title), h("pre", { tabindex: "0", role: "region", "aria-label": "formula" }, node.formula),
    h("table", { class: "four" }, h("tbody", {}, WORDS.map((word) => {
      const changed = node.changed.includes(word);
      return h("tr", { class: changed ? "changed" : "" }, h("th", { scope: "row" }, word), h("td", {}, node.words[word], changed && h("small", {}, `was ${parent.words[word]}`)));
    }))),
    h("p", {}, h("small", {}, parent ? `Comes from ${node.parent}; what it changes is marked.` : "Where it begins.")),
    source && h("details", {}, h("summary", {}, "The page itself"), h("pre", { tabindex: "0", role: "region", "aria-label": `page of ${name}` }, code(source.text.trimEnd()))),
  ].filter(Boolean);
}

function steps(data, { h, number }) {
  const names = Object.keys(data.steps), most = (key) => Math.max(1e-12, ...names.map((n) => Math.abs(data.steps[n][key])));
  const scale = { kl: most("kl"), surrogate: most("surrogate"), gain: most("gain") };
  const bar = (x, key, series) => {
    const node = h("span", { class: `meter s${series}${x < 0 ? " below" : ""}` });
    node.style.inlineSize = `${(70 * Math.abs(x)) / scale[key]}%`;
    return h("td", {}, h("span", { class: "cell" }, node, number(x, 2)));
  };
  return h("figure", {}, h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Steps of every method" }, h("table", { class: "bars-table" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "method"), h("th", { scope: "col" }, "KL(old ‖ new)"), h("th", { scope: "col" }, "surrogate gained"), h("th", { scope: "col" }, "true J gained"))),
    h("tbody", {}, names.map((n) => h("tr", {}, h("th", { scope: "row" }, n), bar(data.steps[n].kl, "kl", 0), bar(data.steps[n].surrogate, "surrogate", 4), bar(data.steps[n].gain, "gain", 2)))))),
    h("figcaption", {}, `From one policy (J = ${number(data.old.J)}) and one batch. The KL is the mean over the batch’s actions; surrogate and J are exact, over every episode there is. Methods that bound the KL bound it at ${number(data.delta)}. A light bar is a loss.`));
}
