// The server, asked with the token, which came in the link's fragment and stays in this tab.

const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", location.pathname + "#/");
}

async function ask(path, options = {}) {
  const headers = { authorization: `Bearer ${sessionStorage.getItem("token") ?? ""}`, ...options.headers };
  const answer = await fetch(path, { ...options, headers }).catch((wrong) => {
    if (wrong.name === "AbortError") throw wrong;
    throw new Error("The lab does not answer: is logpi lab still running?");
  });
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer;
}

export const get = async (path, options) => (await ask(path, options)).json();

export const post = (path, body, options) =>
  get(path, { ...options, method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

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
