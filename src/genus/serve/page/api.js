// Talking with the server: JSON, files, and answers that come piece by piece.

let key = sessionStorage.getItem("genus-key") ?? "";
let ask = async () => null;

/** Called when the server wants a key, with whether it refused one; it gives one, or null. */
export function onKey(handler) {
  ask = handler;
}

/** What went wrong, in words for people. */
export class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function send(path, options) {
  const sent = key;
  const headers = { ...options.headers, ...(sent ? { Authorization: `Bearer ${sent}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer. Is it still running?", 0);
  }
  if (response.status === 401) {
    if (sent !== key) return send(path, options); // another request has been given one meanwhile
    const given = await ask(sent !== "");
    if (given) {
      key = given;
      sessionStorage.setItem("genus-key", key);
      return send(path, options);
    }
    throw new Problem("The server asks for a key", 401);
  }
  if (!response.ok) {
    const told = await response.json().catch(() => null);
    throw new Problem(told?.error?.message ?? `${response.status} ${response.statusText}`, response.status);
  }
  return response;
}

const posted = (body, signal) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
  signal,
});

/** The JSON at an address; with a body, what comes back for it. */
export async function json(path, body, signal) {
  return (await send(path, body === undefined ? { signal } : posted(body, signal))).json();
}

/** The text at an address. */
export async function text(path) {
  return (await send(path, {})).text();
}

/** The file at an address, as a Blob. */
export async function blob(path) {
  return (await send(path, {})).blob();
}

/** Put a piece of a file. */
export async function put(path, piece, signal) {
  const headers = { "Content-Type": "application/octet-stream" };
  return (await send(path, { method: "PUT", headers, body: piece, signal })).json();
}

export async function remove(path) {
  await send(path, { method: "DELETE" });
}

function lost(error) {
  if (error?.name === "AbortError") throw error;
  throw new Problem("The connection was lost before the answer ended.", 0);
}

/** The events of an answer that is written piece by piece, each read as JSON. An error in their midst is thrown. */
export async function* events(path, body, signal) {
  const response = await send(path, posted(body, signal));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read().catch(lost);
    if (done) lost();
    waiting += value;
    const parts = waiting.split(/\r?\n\r?\n/);
    waiting = parts.pop();
    for (const part of parts) {
      const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (!data) continue;
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Problem(event.error.message, 0);
      yield event;
    }
  }
}

const SHOWN = 5; // other tokens that are shown at a place

/**
 * One answer of a model, piece by piece: {text, tokens, finish, usage}. `tokens` are {text, log, others: [{text, log}]}.
 *
 * A model that converses is given the conversation; any other continues, or rewrites, the last thing that was said.
 */
export async function* answer(model, messages, rules, signal) {
  const chats = model.abilities.includes("chat");
  const path = chats ? "v1/chat/completions" : "v1/completions";
  const asked = chats
    ? { messages, logprobs: true, top_logprobs: SHOWN }
    : { prompt: messages.at(-1).content, logprobs: SHOWN };
  const body = { model: model.name, stream: true, stream_options: { include_usage: true }, ...asked, ...rules };
  for await (const event of events(path, body, signal)) {
    const choice = event.choices?.[0];
    const said = choice?.delta?.content ?? choice?.text ?? "";
    yield { text: said, tokens: tokens(choice?.logprobs), finish: choice?.finish_reason ?? null, usage: event.usage ?? null };
  }
}

/** Tokens with their log-probabilities, from either of OpenAI's two forms. */
function tokens(told) {
  if (!told) return [];
  if (told.content) {
    return told.content.map((each) => ({
      text: each.token,
      log: each.logprob,
      others: each.top_logprobs.map((other) => ({ text: other.token, log: other.logprob })),
    }));
  }
  return (told.tokens ?? []).map((text, i) => ({
    text,
    log: told.token_logprobs[i],
    others: Object.entries(told.top_logprobs?.[i] ?? {})
      .map(([other, log]) => ({ text: other, log }))
      .sort((a, b) => b.log - a.log),
  }));
}

/** What a model is called in a list; of a run that is not finished, how far it is. */
export function called(model, t) {
  return model.step === null ? model.name : `${model.name} (${t("Step")} ${model.step.toLocaleString()})`;
}
