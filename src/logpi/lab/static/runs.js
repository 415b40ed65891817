// Runs: the list, and the curves of the chosen ones as they grow. One stream for the whole page.

import { curves as drawnFrom, get } from "./api.js";
import { h, number } from "./dom.js";
import { inside } from "./inside.js";
import uPlot from "./vendor/uPlot.esm.js";

const AXES = ["steps", "seconds", "iteration"], LOOK = 5000, MOST = 32;
const DASHES = [[], [9, 4], [2, 3], [9, 3, 2, 3], [14, 4], [5, 3]];

if (!document.querySelector('link[href$="uPlot.min.css"]')) document.head.append(h("link", { rel: "stylesheet", href: "static/vendor/uPlot.min.css" }));

export function runs(root, about, page) {
  const leaving = new AbortController();
  let chosen = page.query.getAll("run"), x = AXES.includes(page.query.get("x")) ? page.query.get("x") : "steps";
  let stream = null, picture = null, plots = [], listed = "", timer = 0, left = false;
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  const list = h("div", {}), curves = h("div", { class: "charts" }), legend = h("div", {}), after = h("div", {});
  const axis = h("fieldset", { class: "control" }, h("legend", {}, "over"), h("div", { class: "segments" }, AXES.map((name) =>
    h("label", {}, h("input", { type: "radio", name: "x", value: name, checked: name === x, onchange: () => { x = name; choose(); } }), h("span", {}, name)))));
  root.append(h("p", { class: "eyebrow where" }, about.runs), h("h1", {}, "Runs"),
    h("p", { class: "lead" }, "Choose runs to compare. Those that differ only in their seed are one curve: their mean, with its 95 % bootstrap interval. Curves grow as the runs do."),
    wrong, list, axis, legend, curves, after);
  const within = inside(root, about, page, keep);

  const fail = (error) => {
    if (left || error.name === "AbortError") return;
    wrong.textContent = error.message;
    wrong.hidden = false;
  };

  function choose() {
    within.show(chosen);
    keep();
    stream?.abort();
    axis.hidden = !chosen.length;
    if (!chosen.length) { picture = null; return draw(); }
    stream = new AbortController();
    drawnFrom(chosen, x, (found) => { wrong.hidden = true; picture = found; draw(); }, stream.signal).catch(fail);
  }

  function keep() {
    page.rewrite(new URLSearchParams([...chosen.map((id) => ["run", id]), ...(x !== "steps" ? [["x", x]] : []), ...within.query()]).toString());
  }

  async function look() {
    try {
      const found = await get("api/runs", { signal: leaving.signal });
      const text = JSON.stringify(found.map(({ age, ...rest }) => rest));
      if (listed === "" && !chosen.length && found.length) { chosen = alike(found); choose(); } else if (listed === "") choose();
      if (text !== listed) { listed = text; show(found); }
      within.look();
    } catch (error) { fail(error); }
    if (!left) timer = setTimeout(look, LOOK);
  }

  function show(found) {
    const held = document.activeElement?.dataset?.run;
    if (!found.length) return list.replaceChildren(h("p", { class: "empty" }, "There is no run here yet: begin one with ", h("code", {}, "logpi train ppo --env CartPole-v1"), ". It appears by itself."));
    const box = (run) => h("input", { type: "checkbox", "data-run": run.id, checked: chosen.includes(run.id), "aria-label": run.id, onchange: (e) => {
      chosen = e.target.checked ? [...chosen, run.id].slice(-MOST) : chosen.filter((id) => id !== run.id);
      choose();
    } });
    const head = ["", "environment", "method", "seed", "steps", "return", "state", "begun"];
    list.replaceChildren(h("div", { class: "wide runs-table", tabindex: "0", role: "region", "aria-label": "All runs" }, h("table", {},
      h("thead", {}, h("tr", {}, head.map((t) => (t ? h("th", { scope: "col" }, t) : h("td", {}))))),
      h("tbody", {}, found.map((run) => h("tr", {}, h("td", {}, box(run)), h("td", {}, run.env), h("td", {}, run.method), h("td", {}, String(run.seed ?? "–")),
        h("td", {}, number(run.steps)), h("td", {}, number(run.return)), h("td", {}, h("span", { class: `state ${run.state}` }, run.state)), h("td", {}, ago(run.age))))))));
    if (held) [...list.querySelectorAll("input")].find((b) => b.dataset.run === held)?.focus();
  }

  function draw() {
    plots.forEach((p) => p.destroy());
    plots = [];
    curves.replaceChildren();
    legend.replaceChildren();
    after.replaceChildren();
    if (!picture) return;
    const names = [...new Set(picture.charts.flatMap((c) => c.groups.map((g) => g.name)))];
    legend.append(h("ul", { class: "legend" }, names.map((name, i) => h("li", {}, swatch(i), name))));
    const places = picture.charts.map((chart) => h("div", { role: "img", "aria-label": words(chart, picture.x) }));
    curves.append(...places.map((place, i) => h("section", {}, h("h2", {}, picture.charts[i].title), place)));
    plots = places.map((place, i) => plot(place, picture.charts[i], picture.x, names));
    if (!picture.charts.length) curves.append(h("p", {}, "No iteration of these runs is finished yet."));
    const damaged = picture.runs.filter((run) => run.damaged);
    if (damaged.length) after.append(h("p", {}, ...damaged.map((run) => `${run.id}: ${run.damaged} damaged lines are left out. `)));
    after.append(h("p", {}, h("small", {}, "Thin: single runs. A small × on the axis: the log holds no number there (NaN or infinite), and the line has a gap.")));
  }

  const resized = () => { clearTimeout(resized.soon); resized.soon = setTimeout(draw, 120); };
  addEventListener("resize", resized);
  look();
  return () => {
    left = true;
    clearTimeout(timer);
    leaving.abort();
    within.leave();
    stream?.abort();
    removeEventListener("resize", resized);
    plots.forEach((p) => p.destroy());
  };
}

/** The newest run, and those of the same method and environment beside it. */
const alike = (found) => found.filter((run) => run.env === found[0].env && run.method === found[0].method).slice(0, 8).map((run) => run.id);

const swatch = (i) => { const c = h("canvas", { width: 48, height: 16, class: `s${i % 8}`, "aria-hidden": "true" }); c.style.width = "24px"; c.style.height = "8px"; requestAnimationFrame(() => stroke(c, i)); return c; };
function stroke(canvas, i) {
  const pen = canvas.getContext("2d");
  pen.strokeStyle = ink(`--s${i % 8}`);
  pen.lineWidth = 4;
  pen.setLineDash(DASHES[i % DASHES.length].map((d) => 2 * d));
  pen.beginPath(); pen.moveTo(0, 8); pen.lineTo(48, 8); pen.stroke();
}

/** A colour of style.css as the theme has it now: canvases know no variables. */
function ink(name, alpha = 1) {
  const probe = h("i", {});
  probe.style.color = alpha === 1 ? `var(${name})` : `color-mix(in srgb, var(${name}) ${100 * alpha}%, transparent)`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function plot(place, chart, x, names) {
  const series = [{}], tables = [], bands = [], quiet = { spanGaps: false, points: { show: false } };
  for (const group of chart.groups) {
    const i = names.indexOf(group.name), colour = ink(`--s${i % 8}`), dash = DASHES[i % DASHES.length];
    const several = group.mean !== null;
    for (const line of group.lines) {
      tables.push([line.x, line.y]);
      series.push({ ...quiet, stroke: several ? ink(`--s${i % 8}`, 0.35) : colour, width: several ? 1 : 1.8, dash: several ? [] : dash, points: { show: line.x.length === 1 } });
    }
    if (several) {
      const { mean } = group, at = series.length;
      tables.push([mean.x, mean.high], [mean.x, mean.low], [mean.x, mean.y]);
      series.push({ ...quiet, width: 0 }, { ...quiet, width: 0 }, { ...quiet, stroke: colour, width: 2.2, dash });
      bands.push({ series: [at, at + 1], fill: ink(`--s${i % 8}`, 0.16) });
    }
  }
  const axis = { stroke: ink("--soft"), grid: { stroke: ink("--hair"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif", labelFont: "italic 12px system-ui, sans-serif" };
  const marks = (u) => {
    u.ctx.save();
    u.ctx.lineWidth = 1.5 * devicePixelRatio;
    for (const group of chart.groups) {
      u.ctx.strokeStyle = ink(`--s${names.indexOf(group.name) % 8}`);
      for (const line of group.lines) line.y.forEach((y, i) => { if (y === null) cross(u, u.valToPos(line.x[i], "x", true)); });
    }
    u.ctx.restore();
  };
  const data = torn(uPlot.join(tables.map(([a, b]) => rising(a, b))));
  return new uPlot({
    width: place.clientWidth || 420, height: 220, series, bands, scales: { x: { time: false } },
    axes: [{ ...axis, label: x, labelSize: 18, size: 32, values: (_, v) => v.map((n) => short(n)) }, { ...axis, size: 56, values: (_, v) => v.map((n) => short(n)) }],
    legend: { show: false }, cursor: { drag: { x: true, y: false }, points: { show: false } }, hooks: { draw: [marks] },
  }, data, place);
}

/** Another line's x between two nulls, or beside one, is in the gap, too: a line goes on over undefined, not over null. */
function torn([x, ...lines]) {
  for (const y of lines) {
    for (let i = 1; i < y.length; i++) if (y[i] === undefined && y[i - 1] === null) y[i] = null;
    for (let i = y.length - 2; i >= 0; i--) if (y[i] === undefined && y[i + 1] === null) y[i] = null;
  }
  return [x, ...lines];
}

/** x must rise for uPlot: of points at one x the last stands. */
function rising(x, y) {
  const xs = [], ys = [];
  x.forEach((v, i) => {
    if (xs.length && v <= xs.at(-1)) { if (v === xs.at(-1)) ys[ys.length - 1] = y[i]; return; }
    xs.push(v);
    ys.push(y[i]);
  });
  return [xs, ys];
}

function cross(u, x) {
  const r = 3.5 * devicePixelRatio, y = u.bbox.top + u.bbox.height - r;
  u.ctx.beginPath();
  u.ctx.moveTo(x - r, y - r); u.ctx.lineTo(x + r, y + r); u.ctx.moveTo(x + r, y - r); u.ctx.lineTo(x - r, y + r);
  u.ctx.stroke();
}

const short = (n) => (Math.abs(n) >= 1e6 ? `${+(n / 1e6).toPrecision(3)}M` : Math.abs(n) >= 1e4 ? `${+(n / 1e3).toPrecision(3)}k` : number(n));

function words(chart, x) {
  const last = (g) => (g.mean ? g.mean.y : g.lines[0]?.y ?? []).filter((y) => y !== null).at(-1);
  return `${chart.title} over ${x}. ${chart.groups.map((g) => `${g.name}: last ${number(last(g))}`).join("; ")}`;
}

function ago(seconds) {
  if (seconds == null) return "–";
  const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"]].find(([size]) => seconds >= size) ?? [1, "s"];
  return `${Math.max(0, Math.floor(seconds / size))} ${unit} ago`;
}
