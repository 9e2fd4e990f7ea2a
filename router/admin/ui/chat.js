// The chat box: one conversation at a time, each turn sent with its whole history, as clients of
// the OpenAI API do. The history is what makes the next turn's prefix warm.

import { askForKey, call, read } from "./api.js";
import { byId, duration, node, say } from "./dom.js";

let messages = [];
let running = null;

/** Events of a server-sent stream, as they arrive. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const parts = rest.split(/\r?\n\r?\n/);
    rest = parts.pop();
    for (const part of parts) {
      const data = part.split(/\r?\n/).filter((l) => l.startsWith("data:")).map((l) => l.slice(5).trim()).join("\n");
      if (data) yield data;
    }
  }
}

function bubble(role, text = "") {
  const log = byId("conversation");
  log.querySelector(".empty")?.remove();
  const words = node("p", {}, text);
  const note = node("small");
  const turn = node("div", { class: `turn ${role}` }, words, role === "user" ? null : note);
  log.append(turn);
  log.scrollTop = log.scrollHeight;
  return { turn, words, note };
}

function facts(answer) {
  const parts = [];
  const fact = (label, value) => parts.push(node("span", {}, parts.length ? " · " : "", label, node("b", {}, value)));
  if (answer.endpoint) fact("", answer.endpoint);
  if (answer.reason) fact("", answer.reason);
  if (answer.first !== null) fact("first token ", duration(answer.first));
  if (answer.usage) {
    const cached = answer.usage.prompt_tokens_details?.cached_tokens ?? 0;
    fact("prompt ", `${answer.usage.prompt_tokens} tokens`);
    fact("cached ", `${cached}`);
    const seconds = answer.total - answer.first;
    if (answer.usage.completion_tokens > 1 && seconds > 0) {
      fact("", `${((answer.usage.completion_tokens - 1) / seconds).toFixed(0)} tokens/s`);
    }
  }
  return parts;
}

async function ask(model, conversation, spoken, signal) {
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  const body = { model, messages: conversation, stream: true, stream_options: { include_usage: true }, max_tokens: 400 };
  const response = await call("POST", "/chat/completions", body, signal);
  const answer = {
    endpoint: response.headers.get("x-warmpath-endpoint") ?? "",
    reason: response.headers.get("x-warmpath-reason") ?? "",
    first: null,
    usage: null,
    text: "",
  };
  let complete = false;
  for await (const data of events(response)) {
    if (data === "[DONE]") {
      complete = true;
      break;
    }
    const event = JSON.parse(data);
    if (event.error) throw new Error(event.error.message);
    if (event.usage) answer.usage = event.usage;
    const piece = event.choices?.[0]?.delta?.content;
    if (piece) {
      answer.first ??= elapsed();
      answer.text += piece;
      say(spoken.words, answer.text);
      byId("conversation").scrollTop = byId("conversation").scrollHeight;
    }
  }
  if (!complete) throw new Error("the answer was cut off");
  answer.total = elapsed();
  return answer;
}

async function send(event) {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (!text || running) return;
  byId("text").value = "";
  byId("send").disabled = true;
  const conversation = messages;
  const mine = (running = new AbortController());
  conversation.push({ role: "user", content: text });
  bubble("user", text);
  const spoken = bubble("assistant", "…");
  try {
    const answer = await ask(byId("model").value, conversation, spoken, mine.signal);
    conversation.push({ role: "assistant", content: answer.text });
    spoken.note.append(...facts(answer));
    byId("conversation").scrollTop = byId("conversation").scrollHeight;
  } catch (error) {
    // The turn did not happen: it must not be part of the next one's history.
    conversation.pop();
    spoken.turn.className = "turn failed";
    say(spoken.note, error.message);
    if (error.status === 401 && askForKey()) refreshModels();
  } finally {
    if (running === mine) running = null;
    byId("send").disabled = running !== null;
    byId("text").focus();
  }
}

/** Leaving an answer half read is what clients do: its engine stops at once. */
function fresh() {
  running?.abort();
  running = null;
  messages = [];
  byId("conversation").replaceChildren(node("p", { class: "empty" }, "A new conversation: no engine knows it yet."));
  byId("text").focus();
}

async function offerModels() {
  const models = (await read("/chat/models")).data.map((model) => model.id);
  const select = byId("model");
  const shown = [...select.options].map((option) => option.value);
  if (models.join() === shown.join()) return;
  const chosen = select.value;
  select.replaceChildren(...models.map((id) => node("option", { value: id }, id)));
  if (models.includes(chosen)) select.value = chosen;
}

export function startChat() {
  byId("say").addEventListener("submit", send);
  byId("fresh").addEventListener("click", fresh);
  byId("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
  });
}

export const refreshModels = () => offerModels().catch(() => {});
