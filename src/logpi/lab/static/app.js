// Which page is open stands in the URL's fragment: #/ , #/bandit?lr=1&seed=3 , #/guide/03-baselines?at=exercises , #/runs?run=...

import { get } from "./api.js";
import { h } from "./dom.js";
import { demonstration } from "./demonstration.js";
import { guide } from "./guide.js";
import { home } from "./home.js";

const main = document.getElementById("main"), nav = document.getElementById("nav");
let about = null, open = null, leave = () => {};

/** What is in the fragment: a page's name and its query. */
function place() {
  const [name, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { name, query: new URLSearchParams(query) };
}

/** A page's query is replaced, without a new entry in the history. */
const rewrite = (name, query) => history.replaceState(null, "", `#/${name}${query ? `?${query}` : ""}`);

async function show() {
  if (location.hash === "#main") return main.focus();
  const { name, query } = place();
  leave();
  leave = () => {};
  for (const link of nav.querySelectorAll("a")) {
    if (link.dataset.name === name.split("/")[0]) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  const moved = open !== null && open !== name;
  open = name;
  const page = h("article", { "data-page": name || "home" });
  main.replaceChildren(page);
  if (moved) { main.focus({ preventScroll: true }); scrollTo(0, 0); }
  const title = about.demos.find((x) => x.name === name)?.title ?? { "": "The laboratory", guide: "The guide", runs: "Runs" }[name.split("/")[0]];
  document.title = `${title ?? "Not found"} · logpi lab`;
  const tools = { rewrite: (q) => place().name === name && rewrite(name, q), query };
  if (name === "") home(page, about);
  else if (/^guide(\/|$)/.test(name)) leave = guide(page, name.slice(6) || "index", tools);
  else if (name === "runs") leave = (await import("./runs.js")).runs(page, about, tools);
  else if (title) leave = demonstration(page, name, about.demos.findIndex((x) => x.name === name), about, tools);
  else page.append(h("h1", {}, "There is no such page."), h("p", {}, h("a", { href: "#/" }, "To the first page")));
}

function navigation() {
  const item = (name, mark, title) =>
    h("li", {}, h("a", { href: `#/${name}`, "data-name": name }, h("span", { class: "mark" }, mark), title));
  const others = [item("guide", "§", "The guide"), about.runs && item("runs", "~", "Runs")];
  nav.append(h("ol", {}, about.demos.map((x, i) => item(x.name, i, x.title))), h("ol", {}, others.filter(Boolean)));
}

function themes() {
  const button = document.getElementById("theme"), root = document.documentElement;
  const say = () => { button.textContent = root.dataset.theme === "dark" ? "Light theme" : "Dark theme"; };
  button.addEventListener("click", () => {
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
    say();
    dispatchEvent(new Event("resize"));
  });
  say();
}

themes();
try {
  about = await get("api/lab");
  navigation();
  addEventListener("hashchange", show);
  await show();
} catch (wrong) {
  main.replaceChildren(h("article", {}, h("h1", {}, "The lab is not open"), h("p", { class: "wrong", role: "alert" }, wrong.message)));
}
document.documentElement.dataset.ready = "yes";
