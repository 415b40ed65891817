// One demonstration: the idea, the picture, what can be turned, the formula, the source of what ran.

import { answered, get, numbers, turned } from "./api.js";
import * as charts from "./chart.js";
import { controls, read, write } from "./controls.js";
import * as dom from "./dom.js";
import { code, sources } from "./source.js";

const { h } = dom;
const PATIENCE = 300; // milliseconds
const still = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * A page static/demos/NAME.js exports draw(root, data, tools). It is called with every answer, and when the width or the theme
 * has changed; root keeps what an earlier call left there. It may return a function that stops what it set going. A page whose
 * numbers come step after step may export way(params, before): the params to be drawn on the way to these, before: those drawn last.
 * tools: params, seed, before (the data drawn before, null at first), still (no motion is wanted),
 * set({param: value}) or set((params) => ({param: value})), has({param: value}) (would set be answered? in a copy without a server
 * not everything is), shown (the functions that ran, with their source),
 * h, s, number, table, legend (dom.js), chart, figure, range, ticks, glide, trace (chart.js), code (source.js).
 */
export function demonstration(root, name, index, about, page) {
  const leaving = new AbortController(), signal = leaving.signal;
  let stop = null, told = null, data = null, drawn = {}, params = {}, seed = 0, wanted = null, asking = null, panel = null, draw = null, way = null;
  const picture = h("div", { class: "picture", "aria-busy": "true" });
  const waiting = h("p", { class: "waiting", role: "status" });
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  const beside = h("aside", {}), lower = h("section", { class: "lower" });
  const idea = h("div", { class: "idea" }), formula = h("div", { class: "formula", tabindex: "0", role: "region", "aria-label": "Formula" });
  const next = about.demos[index + 1], chapters = about.chapters.filter((x) => x.demos.includes(name));
  root.append(
    h("p", { class: "eyebrow" }, `Demonstration ${index}`), h("h1", {}, about.demos[index].title), idea, formula,
    h("div", { class: "stage" }, h("section", { "aria-label": "Picture" }, wrong, waiting, picture), beside), lower,
    chapters.length ? h("p", { class: "read" }, "Read: ", chapters.flatMap((x, i) => [i ? ", " : "", h("a", { href: `#/guide/${x.name}` }, x.title)])) : "",
    h("p", { class: "next" }, next ? h("a", { href: `#/${next.name}` }, `Next: ${next.title}`) : about.runs && h("a", { href: "#/runs" }, "Next: your own runs")));

  function fail(error) {
    if (signal.aborted || error.name === "AbortError") return;
    wrong.textContent = error.message;
    wrong.hidden = false;
    busy(false);
  }

  /** What takes longer than one notices says that it is under way. */
  function busy(is) {
    picture.setAttribute("aria-busy", is);
    clearTimeout(busy.soon);
    if (is) busy.soon = setTimeout(() => { waiting.textContent = "Computing"; }, PATIENCE);
    else waiting.textContent = "";
  }

  function redraw(before) {
    if (!data || signal.aborted) return;
    if (typeof stop === "function") stop();
    const has = (changes) => turned(told, drawn.params, changes, drawn.seed) !== null;
    stop = draw(picture, data, { ...dom, ...charts, code, ...drawn, before, still: still.matches, set, has, shown: told.shown });
  }

  /** One question at a time: what is turned meanwhile is asked next, in its last state. */
  function ask() {
    page.rewrite(write(told.params, params, seed));
    panel.show(params, seed);
    wanted = { params, seed };
    if (!asking) busy(true);
    return (asking ??= answers().finally(() => { asking = null; }));
  }

  async function answers() {
    while (wanted) {
      const now = wanted;
      wanted = null;
      try {
        const onTheWay = (way?.(now.params, drawn.params ?? {}) ?? []).filter((stage) => answered(told, stage, now.seed));
        for (const stage of [...onTheWay, now.params]) {
          const found = await numbers(told, stage, now.seed, { signal }), before = data;
          wrong.hidden = true;
          [data, drawn] = [found, { ...now, params: stage }];
          redraw(before);
          if (wanted) break;
        }
        if (!wanted) busy(false);
      } catch (error) {
        if (signal.aborted || !wanted) return fail(error);
      }
    }
  }

  function set(changes) {
    const asked = typeof changes === "function" ? changes(params) : changes;
    params = turned(told, params, asked, seed) ?? { ...params, ...asked };
    return ask();
  }

  function describe() {
    idea.append(...told.idea.map((text, i) => h("p", { class: i ? "" : "lead" }, text)));
    const math = new DOMParser().parseFromString(told.formula, "text/html").body;
    formula.append(document.importNode(math, true).firstElementChild);
    lower.append(h("h2", {}, "The code that ran"), sources(told.shown));
  }

  const resized = () => { clearTimeout(resized.soon); resized.soon = setTimeout(() => redraw(data), 120); };
  addEventListener("resize", resized);
  busy(true);
  (async () => {
    [told, { draw, way }] = await Promise.all([get(`api/demos/${name}`, { signal }), import(`./demos/${name}.js`)]);
    if (signal.aborted) return;
    params = Object.fromEntries(told.params.map((f) => [f.name, read(f, page.query.get(f.name))]));
    seed = +(page.query.get("seed") ?? 0);
    const defaults = () => { seed = 0; set(Object.fromEntries(told.params.map((f) => [f.name, f.default]))); };
    panel = controls(told.params, set, (n) => { seed = told.seeds ? n % told.seeds : n; set({}); }, defaults, told.seeds);
    beside.append(panel.node);
    describe();
    await ask();
  })().catch(fail);

  return () => {
    leaving.abort();
    clearTimeout(busy.soon);
    removeEventListener("resize", resized);
    if (typeof stop === "function") stop();
  };
}
