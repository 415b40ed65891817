// Completions of a language model, token by token, coloured by one of their figures.

import { later } from "./episode.js";
import { h, number, table } from "./dom.js";

const rise = (x) => x, fall = (x) => -x;
const BY = { // column -> its name, what a colour means, the size that it shows (its sign chooses the colour), the smallest that is full
  log_pi: ["probability", "the stronger, the less likely it was when it was drawn", fall, 0],
  psi: ["advantage", "blue over a solid line: its credit raises it; orange over a dashed one: lowers it", rise, 0],
  kl_ref: ["KL to reference", "the stronger, the farther the policy is from the reference here", rise, 1e-3],
  entropy: ["entropy", "the stronger, the less sure the policy was", rise, 1e-3],
  rho: ["ratio", "blue over a solid line: likelier after the update; orange over a dashed one: less likely", Math.log, 1e-3],
};

/** data: what logpi tokens wrote. Returns what ends it: nothing. */
export function rollout(root, data) {
  const columns = data.columns.map(([name]) => name), at = (name) => columns.indexOf(name), by = Object.keys(BY).filter((name) => at(name) >= 0);
  const chips = [], key = h("p", { class: "key" });
  const colour = (name) => {
    const size = ([, , x]) => { const y = x[at(name)]; return y == null ? 0 : BY[name][2](y); };
    const most = Math.max(BY[name][3], ...chips.map(([token]) => Math.abs(size(token)))) || 1;
    for (const [token, chip] of chips) {
      const y = size(token);
      chip.style.setProperty("--much", `${Math.round((40 * Math.abs(y)) / most)}%`);
      chip.classList.toggle("s0", y >= 0);
      chip.classList.toggle("s1", y < 0);
    }
    key.textContent = `${BY[name][1][0].toUpperCase()}${BY[name][1].slice(1)}. Struck: clipped. Grey: not the model’s own. Point at a token, or walk with the arrow keys.`;
  };
  const radios = h("fieldset", { class: "control" }, h("legend", {}, "colour by"), h("div", { class: "segments" }, by.map((name, i) =>
    h("label", {}, h("input", { type: "radio", name: "by", value: name, checked: !i, onchange: () => colour(name) }), h("span", {}, BY[name][0])))));
  root.append(h("p", { class: "eyebrow where" }, `${data.title} · ${data.origin}`), radios, key,
    ...data.rows.map((row) => completion(row, data.columns, chips)),
    later("What the figures mean", () => table(["", "figure", "meaning"], data.columns.map(([, name, means], i) => [String(i + 1), name, means]))));
  colour(by[0]);
  return () => {};
}

function completion(row, columns, chips) {
  const first = row.tokens.findIndex(([, , x]) => x), said = h("p", { class: "told", "aria-live": "polite" });
  const tell = ([, why, x]) => said.replaceChildren(...x.flatMap((y, i) => [h("span", {}, `${columns[i][1]} `, h("b", {}, number(y))), " "]), why);
  const own = [];
  const chip = (token) => {
    const [text, why, x] = token;
    if (!x) return h("span", { class: "other", title: why }, text);
    const made = h("button", { type: "button", class: `piece ${why.startsWith("clipped") ? "struck" : ""}`, tabindex: own.length ? -1 : 0, onfocus: () => { own.forEach((o) => { o.tabIndex = o === made ? 0 : -1; }); tell(token); }, onclick: () => made.focus(), onpointerenter: () => tell(token) }, text);
    own.push(made);
    chips.push([token, made]);
    return made;
  };
  const keys = (event) => {
    const k = own.indexOf(document.activeElement), to = { ArrowRight: k + 1, ArrowLeft: k - 1, Home: 0, End: own.length - 1 }[event.key];
    if (k < 0 || to === undefined) return;
    event.preventDefault();
    own[Math.max(0, Math.min(to, own.length - 1))].focus();
  };
  return h("section", { class: "completion", "aria-label": `Row ${row.number}` },
    h("h3", {}, `Row ${row.number} `, h("small", {}, row.made_of)), group(row),
    h("p", { class: "asked" }, row.tokens.slice(0, first).map(([text]) => text).join("")),
    h("p", { class: "pieces", role: "group", "aria-label": `Completion ${row.number}`, onkeydown: keys }, row.tokens.slice(first).map(chip)), said,
    later("All figures", () => table(["token", ...columns.map(([, name]) => name), ""], row.tokens.slice(first).filter(([, , x]) => x).map(([text, why, x]) => [text, ...x, why]))));
}

/** The rewards of a group as bars; this completion's is full. */
function group({ group: rewards, place }) {
  if (!rewards.length) return null;
  const most = Math.max(...rewards.map(Math.abs)) || 1;
  return h("div", { class: "rewards", role: "img", "aria-label": `Rewards of its group: ${rewards.map((x) => number(x)).join(", ")}; its own is number ${place + 1}` }, rewards.map((x, i) => {
    const bar = h("i", { class: `${x < 0 ? "s1" : "s2"} ${i === place ? "own" : ""}`, title: number(x) });
    bar.style.blockSize = `${Math.max(2, (28 * Math.abs(x)) / most)}px`;
    return h("span", {}, bar, h("small", {}, number(x, 2)));
  }));
}
