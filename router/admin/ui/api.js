// The admin API as the page uses it. Where a token is needed, it is asked for once and kept for
// as long as the tab is open.

const KEY = "warmpath-admin-token";
const CHAT_KEY = "warmpath-api-key";

function headers(extra = {}) {
  const token = sessionStorage.getItem(KEY);
  const key = sessionStorage.getItem(CHAT_KEY);
  const shown = token ? { ...extra, authorization: `Bearer ${token}` } : { ...extra };
  return key ? { ...shown, "x-api-key": key } : shown;
}

/** What the router answered when it was not what we asked for. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function errorOf(response) {
  const text = await response.text();
  try {
    return new ApiError(response.status, JSON.parse(text).error.message);
  } catch {
    return new ApiError(response.status, text.slice(0, 200) || response.statusText);
  }
}

export async function call(method, path, body, signal) {
  const extra = body === undefined ? {} : { "content-type": "application/json" };
  const response = await fetch(path, {
    method,
    headers: headers(extra),
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
  });
  if (!response.ok) throw await errorOf(response);
  return response;
}

export async function read(path) {
  let response;
  try {
    response = await fetch(path, { headers: headers(), signal: AbortSignal.timeout(5000) });
  } catch (error) {
    throw new ApiError(0, `the router does not answer: ${error.message}`);
  }
  if (!response.ok) throw await errorOf(response);
  return response.json();
}

/** Calls ``take(name, data)`` with each of the router's events, for ever; resumes where it was. */
export async function follow(take, last = 50) {
  let seen = "";
  for (;;) {
    try {
      const extra = seen ? { "last-event-id": seen } : {};
      const response = await fetch(`/events?last=${last}`, { headers: headers(extra) });
      if (!response.ok) throw await errorOf(response);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) {
          const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s)));
          if (!fields.data) continue;
          seen = fields.id ?? seen;
          take(fields.event, JSON.parse(fields.data), fields.id);
        }
      }
    } catch {
      // The page says by itself that the router does not answer.
    }
    await new Promise((done) => setTimeout(done, 2000));
  }
}

export const setEndpoint = (cluster, address, state) =>
  call("PATCH", `/clusters/${encodeURIComponent(cluster)}/endpoints/${encodeURIComponent(address)}`, { state });

export const cancelRequest = (id) => call("DELETE", `/requests/${encodeURIComponent(id)}`, {});

/** Asks for the admin token; false if the person gave none. */
export function askForToken() {
  const token = window.prompt("This router's admin API wants its token:");
  if (!token) return false;
  sessionStorage.setItem(KEY, token.trim());
  return true;
}

/** Asks for a client's API key, for the chat; false if the person gave none. */
export function askForKey() {
  const key = window.prompt("This router's clients need an API key:");
  if (!key) return false;
  sessionStorage.setItem(CHAT_KEY, key.trim());
  return true;
}
