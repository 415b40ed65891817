// The server, asked with the token, which came in the link's fragment and stays in this tab. Or, where `logpi lab export` wrote this
// page, the files beside it: api/index.json says which file holds the answer to which request.

const copied = "copy" in document.documentElement.dataset;
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", location.pathname + "#/");
}

let index = null;
async function file(path) {
  index ??= fetch("api/index.json").then((answer) => answer.json());
  const found = (await index)[path];
  if (!found) throw new Error("This copy has no answer to that; logpi lab has.");
  return found;
}

async function ask(path, options = {}) {
  const headers = copied ? {} : { authorization: `Bearer ${sessionStorage.getItem("token") ?? ""}`, ...options.headers };
  const answer = await fetch(copied ? await file(path) : path, { ...options, headers }).catch((wrong) => {
    if (wrong.name === "AbortError") throw wrong;
    throw new Error(copied ? "A file of this copy cannot be read." : "The lab does not answer: is logpi lab still running?");
  });
  if (!answer.ok) throw new Error(copied ? "A file of this copy is not there." : (await answer.json()).error);
  return answer;
}

export const get = async (path, options) => (await ask(path, options)).json();

/** For media and pictures, which can send no token: an answer's bytes. */
export const blob = async (path, options) => (await ask(path, options)).blob();

const post = (path, body, options) =>
  get(path, { ...options, method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

const same = (told, x, params, seed) =>
  x.seed === seed && told.params.every((f) => params[f.name] === (f.name in x.params ? x.params[f.name] : f.default));

/** Are there numbers for these? */
export const answered = (told, params, seed) => !copied || told.answers.some((x) => same(told, x, params, seed));

/** A demonstration's numbers. */
export async function numbers(told, params, seed, options) {
  if (!copied) return post(`api/demos/${told.name}`, { params, seed }, options);
  const found = told.answers.findIndex((x) => same(told, x, params, seed));
  return get(found < 0 ? "" : `api/demos/${told.name}/${found}`, options);
}

/** Parameters with changes: in a copy those that it has numbers for, if need be with all others as they were; null: it has none. */
export function turned(told, params, changes, seed) {
  const both = { ...params, ...changes }, alone = { ...Object.fromEntries(told.params.map((f) => [f.name, f.default])), ...changes };
  return [both, alone].find((x) => answered(told, x, seed)) ?? null;
}

/** Calls `each` with every line of JSON that comes, until the signal. */
export async function follow(path, each, signal) {
  const answer = await ask(path, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) each(JSON.parse(line));
  }
}

/** The curves of chosen runs over x, now and whenever they go on. A copy has those of all its runs at once. */
export async function curves(chosen, x, each, signal) {
  if (!copied) return follow(`api/runs/stream?${new URLSearchParams([...chosen.map((id) => ["run", id]), ["x", x]])}`, each, signal);
  const all = await get(`api/runs/stream?x=${x}`, { signal });
  const has = (group) => group.lines.every((line) => chosen.includes(line.run));
  const of = (group) => ({ ...group, lines: group.lines.filter((line) => chosen.includes(line.run)), mean: has(group) ? group.mean : null });
  const charts = all.charts.map((chart) => ({ ...chart, groups: chart.groups.map(of).filter((group) => group.lines.length) }));
  each({ ...all, runs: all.runs.filter((run) => chosen.includes(run.id)), charts: charts.filter((chart) => chart.groups.length) });
}
