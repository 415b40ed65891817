// The guide: a chapter's fragment, as the server made it; its code coloured, and each source opened under the line that names it.

import { get } from "./api.js";
import { h } from "./dom.js";
import { code, sources } from "./source.js";

const WORDS = { PRE: "Code", MATH: "Formula", TABLE: "Table", IMG: "Figure" };

/** `page.query.at` is the heading to begin at. */
export function guide(root, name, page) {
  const leaving = new AbortController();
  const body = h("div", { class: "guide" });
  const fit = () => body.querySelectorAll("pre, .display, .wide, :scope > :is(p, ul, ol)").forEach(reachable);
  addEventListener("resize", fit, { signal: leaving.signal });
  get(`api/guide/${name}`, { signal: leaving.signal }).then((told) => {
    document.title = `${told.title} · logpi lab`;
    const parsed = new DOMParser().parseFromString(told.html, "text/html").body;
    body.append(...document.importNode(parsed, true).childNodes);
    for (const x of body.querySelectorAll("pre > code.language-python")) x.replaceWith(code(x.textContent));
    for (const x of body.querySelectorAll("button")) opens(x, told.shown[x.value]);
    for (const x of body.querySelectorAll("table, img")) {
      const wide = h("span", { class: "wide" });
      x.replaceWith(wide);
      wide.append(x);
      x.addEventListener("load", fit);  // a figure has no width before
    }
    root.append(h("p", { class: "eyebrow" }, name === "index" ? "Contents" : h("a", { href: "#/guide" }, "The guide")), h("h1", {}, told.title), body);
    fit();
    document.getElementById(`at-${page.query.get("at")}`)?.scrollIntoView();
  }).catch((wrong) => {
    if (wrong.name !== "AbortError") root.append(h("h1", {}, "The guide"), h("p", { class: "wrong", role: "alert" }, wrong.message));
  });
  return () => leaving.abort();
}

/** A button that names a function: its source comes below the line, and goes again. */
function opens(button, shown) {
  const source = sources([shown]), line = button.closest("p, li, table");
  source.firstElementChild.open = true;
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) source.remove();
    else if (line.tagName === "LI") line.append(source);
    else (line.closest(".wide") ?? line).after(source);
  });
}

/** What is wider than its place can be scrolled by the keyboard, and says what it is. */
function reachable(x) {
  const wider = x.scrollWidth > x.clientWidth, word = WORDS[x.tagName] ?? WORDS[x.firstElementChild?.tagName.toUpperCase()];
  for (const [key, value] of [["tabindex", "0"], ...(word ? [["role", "region"], ["aria-label", word]] : [])]) {
    if (wider) x.setAttribute(key, value);
    else x.removeAttribute(key);
  }
}
