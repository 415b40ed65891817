// The source of the functions that ran, coloured: a few kinds of words are enough for Python.

import { h } from "./dom.js";

const WORDS = /("""[\s\S]*?"""|#.*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|\b(?:def|class|return|if|else|elif|for|in|while|with|not|and|or|is|None|True|False|lambda|yield|raise|from|import|as|assert|try|except)\b|\b\d[\d_.e]*\b)/;
const kind = (word) =>
  word.startsWith("#") ? "comment" : /^["']/.test(word) ? "string" : /^\d/.test(word) ? "number" : "keyword";

export const code = (text) =>
  h("code", {}, text.split(WORDS).map((word, i) => (i % 2 ? h("span", { class: kind(word) }, word) : word)));

/** One <details> for each function. */
export const sources = (shown) =>
  h("div", { class: "sources" }, shown.map((x) =>
    h("details", {}, h("summary", {}, h("b", {}, x.name), h("small", {}, x.module)),
      h("pre", { tabindex: "0", role: "region", "aria-label": `source of ${x.name}` }, code(x.text.trimEnd())))));
