// What the page asks the node that serves it. A token lives in this module and nowhere else: it
// is gone with the page.

let token = null;

export function useToken(secret) {
  token = secret;
}

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `status ${status}`);
    this.status = status;
    this.code = problem.code || "";
    this.cycle = problem.cycle;
  }
}

function headersWith(more) {
  return token ? { ...more, authorization: `Bearer ${token}` } : more;
}

/** Asks; `json` is sent as such, `text` as it is. Throws `Refused` where the answer is one. */
export async function ask(method, path, { json, text, headers = {}, signal } = {}) {
  const said = json === undefined ? headers : { ...headers, "content-type": "application/json" };
  const body = json === undefined ? text : JSON.stringify(json);
  const answer = await fetch(path, { method, body, signal, headers: headersWith(said), cache: "no-store" });
  if (!answer.ok) {
    throw new Refused(answer.status, await answer.json().catch(() => ({})));
  }
  return answer;
}

export const segment = (name) => encodeURIComponent(name);

/** The events of a stream, as `[name, data]`, until it ends. */
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      let name = "message";
      let data = "";
      for (const line of event.split("\n")) {
        if (line.startsWith("event: ")) name = line.slice(7);
        else if (line.startsWith("data: ")) data += line.slice(6);
      }
      // A comment says that the connection lives.
      yield data ? [name, JSON.parse(data)] : ["alive", null];
    }
  }
}

const SILENCE_MAX = 25_000;
const PAUSE_MIN = 500;
const PAUSE_MAX = 4_000;
const pause = (span) => new Promise((resume) => setTimeout(resume, span));

/**
 * Follows what the node tells, and comes back whenever the connection is lost. `keys()` are the
 * keys of the cache to be told of. `heard(name, data)` gets the events; `standing(word, problem)`
 * learns "live", "lost", or "locked" where a token is wanted. The answer is a function that begins
 * anew.
 */
export function follow(keys, heard, standing) {
  let current = new AbortController();
  let wake = () => {};
  async function once() {
    current = new AbortController();
    const { signal } = current;
    let watchdog = 0;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => current.abort("silence"), SILENCE_MAX);
    };
    try {
      alive();
      const answer = await ask("GET", `/v1/events?keys=${segment(keys().join("\n"))}`, { signal });
      for await (const [name, data] of eventsOf(answer.body)) {
        alive();
        standing("live");
        // It is done with us for now, and may be asked again.
        if (name === "again") return true;
        if (name !== "alive") heard(name, data);
      }
      return false;
    } finally {
      clearTimeout(watchdog);
    }
  }
  (async () => {
    let span = PAUSE_MIN;
    for (;;) {
      const begun = Date.now();
      let anew = false;
      try {
        anew = await once();
        if (!anew) standing("lost", "The node has stopped, or let go of this page.");
      } catch (problem) {
        anew = current.signal.reason === "anew";
        // What was begun before a token was given says nothing about that token.
        if (!anew && problem instanceof Refused && [401, 403].includes(problem.status)) {
          standing("locked", problem.message);
          await new Promise((resume) => { wake = resume; });
          anew = true;
        } else if (!anew) {
          standing("lost", problem instanceof Refused ? problem.message : "The node does not answer.");
        }
      }
      if (Date.now() - begun > PAUSE_MAX || anew) span = PAUSE_MIN;
      if (!anew) await pause(span);
      span = Math.min(span * 2, PAUSE_MAX);
    }
  })();
  return () => {
    current.abort("anew");
    wake();
  };
}
