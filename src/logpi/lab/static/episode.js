// An episode: the film, and beside it what was done at each step, what it paid, what the policy and its critic thought. One cursor for all.

import { figure, range } from "./chart.js";
import { h, legend, number, table } from "./dom.js";

const CHARTS = [
  ["reward", "Reward of each step.", "r"], ["value", "What the critic expects from here on, in the rewards’ own unit.", "V"], ["probability", "Probability of each action.", "π(a)"],
  ["action", "The action, by component.", "a"], ["entropy", "Entropy of the policy.", "H"], ["log_pi", "log π of the action.", "log π"],
];

const NEAR = 100; // steps beside each other of which one still sees each

/** data: what logpi play --record wrote, or undefined; film: {name, bytes}, or undefined. Returns what ends it. */
export function episode(root, data, film) {
  const picture = film && pictured(film), episodes = data?.episodes ?? [];
  if (!episodes.length) { root.append(picture.node); return picture.leave; }
  let at = 0, step = 0, marks = [], from = 0, near = episodes.some((x) => x.reward.length > 2 * NEAR);
  const before = episodes.map((_, e) => episodes.slice(0, e).reduce((n, x) => n + x.steps + 1, 0)), fps = data.fps ?? 30;
  const charts = h("div", {}), said = h("p", { class: "said" }), all = h("div", {});
  const slider = h("input", { type: "range", id: "inside-step", min: 0, step: 1, oninput: () => { go(+slider.value); picture?.seek((before[at] + step + 0.5) / fps); } });
  const choice = h("fieldset", { class: "control", hidden: episodes.length < 2 }, h("legend", {}, "episode"), h("div", { class: "segments" }, episodes.map((_, e) =>
    h("label", {}, h("input", { type: "radio", name: "episode", value: e, checked: !e, onchange: () => { draw(e); picture?.seek((before[e] + 0.5) / fps); } }), h("span", {}, String(e + 1))))));
  const extent = h("fieldset", { class: "control", hidden: !near }, h("legend", {}, "curves"), h("div", { class: "segments" }, [[true, `${NEAR} steps`], [false, "the whole episode"]].map(([x, words]) =>
    h("label", {}, h("input", { type: "radio", name: "extent", value: words, checked: x, onchange: () => { near = x; curves(); go(step); } }), h("span", {}, words)))));
  root.append(h("p", { class: "eyebrow where" }, `${data.env} · ${data.checkpoint} · ${data.deterministic ? "most likely actions" : "sampled actions"} · seed ${data.seed}`), choice,
    h("div", { class: "two" }, h("div", {}, picture?.node ?? h("p", {}, "There is no film: this environment draws no pictures, or could not here."),
      h("div", { class: "control" }, h("label", { for: slider.id }, "step"), slider), said, all), h("div", {}, extent, charts)));

  function draw(e) {
    const x = episodes[at = e];
    choice.querySelectorAll("input")[e].checked = true;
    slider.max = Math.max(0, x.reward.length - 1);
    step = 0;
    curves();
    all.replaceChildren(later("All steps", () => table(["step", "action", "reward", ...(x.value ? ["V"] : []), "log π", "entropy"],
      x.reward.map((r, t) => [String(t), acted(x, t), r, ...(x.value ? [x.value[t]] : []), x.log_pi[t], x.entropy[t]]))));
    go(0);
  }

  /** Over all steps, or over those near the cursor; from: the first of them. */
  function curves() {
    const x = episodes[at], n = x.reward.length, most = near ? Math.min(NEAR, n) : n;
    from = near ? Math.min(step - (step % NEAR), n - most) : 0;
    charts.replaceChildren();
    marks = CHARTS.filter(([name]) => x[name]).map(([name, caption, ylabel]) => {
      const lines = Array.isArray(x[name][0]) ? x[name] : [x[name]];
      if (lines.length > 1) charts.append(legend(lines.map((_, k) => [`${name} ${k}`, k % 8])));
      const shown = figure(charts, caption, { x: [from, from + Math.max(1, most - 1)], y: name === "probability" ? [0, 1] : range(lines), height: 150, xlabel: "step", ylabel, title: `${caption} Steps ${from} to ${from + most - 1} of ${n}.` });
      lines.forEach((line, k) => shown.line(line.slice(from, from + most).map((y, t) => [from + t, y]), { series: k % 8, dash: lines.length > 1 }));
      return [shown, shown.rule({ x: from }, { class: "cursor" })];
    });
  }

  function go(t) {
    const x = episodes[at], n = x.reward.length;
    step = Math.max(0, Math.min(t, n - 1));
    if (near && (step < from || step >= from + NEAR)) curves();
    for (const [shown, mark] of marks) { mark.setAttribute("x1", shown.X(step)); mark.setAttribute("x2", shown.X(step)); }
    const cut = x.steps > n ? ` The first ${n} of its ${x.steps} steps are kept.` : "";
    const sure = x.probability ? ` of probability ${number(Math.exp(x.log_pi[step]), 2)}` : "";
    const words = n ? `Step ${step}: action ${acted(x, step)}${sure}, reward ${number(x.reward[step])}${x.value ? `, V ${number(x.value[step])}` : ""}, entropy ${number(x.entropy[step])}.` : "No step of it is kept.";
    said.textContent = `${words} Return ${number(x.return)} in ${x.steps} steps, ${x.terminated ? "to an end" : "cut off"}.${cut}`;
    slider.value = step;
    slider.setAttribute("aria-valuetext", words);
  }

  picture?.moved((seconds) => {
    const frame = Math.floor(seconds * fps), e = before.findLastIndex((first) => first <= frame);
    if (e !== at) draw(e);
    go(frame - before[e]);
  });
  const resized = () => { clearTimeout(resized.soon); resized.soon = setTimeout(() => { const t = step; draw(at); go(t); }, 120); };
  addEventListener("resize", resized);
  draw(0);
  return () => { removeEventListener("resize", resized); clearTimeout(resized.soon); picture?.leave(); };
}

const acted = (x, t) => x.action.map((component) => number(component[t])).join(", ");

/** What is long is made when it is opened. */
export function later(title, make) {
  const fold = h("details", { class: "numbers", ontoggle: () => { if (fold.open && fold.childElementCount < 2) fold.append(make().querySelector(".wide")); } }, h("summary", {}, title));
  return fold;
}

function pictured({ name, bytes }) {
  const url = URL.createObjectURL(bytes), gif = bytes.type === "image/gif", file = name.slice(name.lastIndexOf("/") + 1);
  const node = h("div", { class: "film" }), leave = () => URL.revokeObjectURL(url);
  if (gif) {
    node.append(h("img", { src: url, alt: `The film ${file}` }));
    return { node, leave, seek: () => {}, moved: () => {} };
  }
  const fails = () => node.replaceChildren(h("p", { class: "wrong", role: "alert" }, `This browser cannot play ${file}: open it with another, or make a .gif with logpi play --video.`));
  const video = h("video", { controls: true, muted: true, playsinline: true, preload: "auto", src: url, "aria-label": `The film ${file}`, onerror: fails });
  node.append(video);
  return {
    node, leave: () => { video.pause(); leave(); },
    seek: (seconds) => { video.pause(); video.currentTime = seconds; },
    moved: (each) => video.addEventListener("timeupdate", () => { if (!video.paused) each(video.currentTime); }),
  };
}
