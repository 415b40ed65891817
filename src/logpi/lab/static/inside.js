// One run from within: an episode beside its film, or completions token by token; and which command makes them where there are none.

import { blob, get } from "./api.js";
import { h } from "./dom.js";
import { episode } from "./episode.js";
import { rollout } from "./rollout.js";

/** -> {show(ids): of which runs, look(): is there something new?, query(): what the link keeps, leave()}; `moved` hears of a choice. */
export function inside(root, about, page, moved) {
  let ids = [], run = page.query.get("inside"), chosen = page.query.get("file"), listed = "", drawn = "", turn = 0, stop = () => {};
  const which = h("select", { id: "inside-run", onchange: () => { run = which.value; chosen = null; moved(); look(); } });
  const files = h("select", { id: "inside-file", onchange: () => { chosen = files.value; moved(); look(); } });
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true }), view = h("div", { class: "inside" });
  const pick = (select, name) => h("div", { class: "control" }, h("label", { for: select.id }, name), select);
  const runPick = pick(which, "run"), filePick = pick(files, "kept");
  const section = h("section", { class: "lower", hidden: true, "aria-labelledby": "inside-title" }, h("h2", { id: "inside-title" }, "From within"), h("div", { class: "picks" }, runPick, filePick), wrong, view);
  root.append(section);

  const kept = (name) => `api/runs/kept?${new URLSearchParams([["run", run], ...(name ? [["name", name]] : [])])}`;
  const options = (select, entries, value) => {
    select.replaceChildren(...entries.map(([v, words]) => h("option", { value: v }, words)));
    select.value = value;
  };

  function show(now) {
    ids = now;
    if (!ids.includes(run)) { if (run !== null) chosen = null; run = ids[0] ?? null; }
    section.hidden = run === null;
    runPick.hidden = ids.length < 2;
    options(which, ids.map((id) => [id, id]), run);
    look();
  }

  async function look() {
    const mine = ++turn;
    if (run === null) return;
    try {
      const found = await get(kept());
      if (mine !== turn) return;
      const there = together(found.files), file = there.has(chosen) ? chosen : there.keys().next().value ?? null;
      if (JSON.stringify([run, [...there.keys()]]) !== listed) {
        listed = JSON.stringify([run, [...there.keys()]]);
        filePick.hidden = !there.size;
        options(files, [...there.keys()].map((stem) => [stem, stem.slice(stem.indexOf("/") + 1)]), file);
      }
      const state = JSON.stringify([run, file, there.get(file)]);
      if (state === drawn) return;
      drawn = state;
      stop();
      stop = () => {};
      wrong.hidden = true;
      if (file === null) return view.replaceChildren(hint(found.text, about.runs, run));
      await open(there.get(file), mine);
    } catch (error) {
      if (mine !== turn) return;
      wrong.textContent = error.message;
      wrong.hidden = false;
    }
  }

  async function open(parts, mine) {
    const large = Object.values(parts).find((x) => x.large);
    if (large) { view.replaceChildren(); throw new Error(`${large.name} has ${Math.round(large.bytes / 1e6)} MB: the lab shows no file of its kind that is so large.`); }
    const { steps, film } = parts;
    const [data, bytes] = await Promise.all([steps && get(kept(steps.name)), film && blob(kept(film.name))]);
    if (mine !== turn) return;
    view.replaceChildren();
    const draw = film || Array.isArray(data?.episodes) ? episode : rollout;
    try {
      stop = draw(view, data, film && { name: film.name, bytes });
    } catch (error) {
      view.replaceChildren();
      throw new Error(`${steps?.name ?? film.name} is not as logpi writes it (${error.message}).`);
    }
  }

  return {
    show, look, leave: () => { turn++; run = null; stop(); },
    query: () => [...(run !== null && ids.length > 1 && run !== ids[0] ? [["inside", run]] : []), ...(chosen ? [["file", chosen]] : [])],
  };
}

/** Files that differ in their ending alone are one: a film and its steps. The newest first. */
function together(files) {
  const found = new Map();
  for (const x of files) {
    const at = x.name.lastIndexOf("."), stem = x.name.slice(0, at), part = x.name.slice(at) === ".json" ? "steps" : "film";
    found.set(stem, { ...found.get(stem), [part]: x });
  }
  return found;
}

const hint = (text, runs, run) => h("p", { class: "empty" }, ...(text
  ? ["No rollout of this run is kept yet. ", h("code", {}, `logpi tokens ${runs}/${run}`), " makes an iteration again and keeps its completions, token by token."]
  : ["No episode of this run is kept yet. ", h("code", {}, `logpi play ${runs}/${run} --record`), " plays one and keeps its film and what was done at each step."]));
