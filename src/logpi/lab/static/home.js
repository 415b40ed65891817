// The first page: the sentence that every method is, and where to begin.

import { h } from "./dom.js";

const WORDS = [
  ["step", "gradient ascent, natural gradient, trust region"],
  ["average", "per episode, per action, per sequence, per budget"],
  ["objective", "score, ratio, clip, mirror"],
  ["log π", "categorical, Gaussian, Beta, tokens"],
  ["Ψ", "return, to-go, baseline, advantage, group"],
];

export function home(root, about) {
  root.append(
    h("p", { class: "eyebrow" }, `logpi ${about.version}`),
    h("h1", {}, "Every policy-gradient method is one sentence"),
    h("p", { class: "sentence" }, "θ ← ", h("b", { class: "s0" }, "step"), "( ", h("b", { class: "s2" }, "average"), " of ", h("b", { class: "s1" }, "objective"), "( ", h("b", { class: "s3" }, "log π"), " , ", h("b", { class: "s4" }, "Ψ"), " ) )"),
    h("dl", { class: "words" }, WORDS.map(([word, means]) => h("div", {}, h("dt", {}, word), h("dd", {}, means)))),
    h("p", { class: "lead" }, "Methods differ in five exchangeable words. Each page below shows one of them at work. Every picture is computed by the library’s own functions, whose source stands beside it; turn anything, and the link keeps what you see."),
    h("ol", { class: "contents" }, about.demos.map((x, i) =>
      h("li", {}, h("a", { href: `#/${x.name}` }, h("span", { class: "mark" }, i), x.title))),
      h("li", {}, h("a", { href: "#/guide" }, h("span", { class: "mark" }, "§"), "The guide: the same, derived in full")),
      about.runs ? h("li", {}, h("a", { href: "#/runs" }, h("span", { class: "mark" }, "~"), `Your runs in ${about.runs}`)) : ""));
}
