// The service, as the page calls it.

/** An error that the service explained. */
export class Problem extends Error {
  /** @param {{detail: string, hint?: string, status: number}} members */
  constructor(members) {
    super(members.detail);
    this.hint = members.hint ?? "";
    this.status = members.status;
  }
}

const TRIES = 3;
const LONGEST_WAIT = 10;

let key = "";

/** Carry this key from now on. */
export function useKey(text) {
  key = text;
}

/** Whether requests carry a key, which links can't. */
export function hasKey() {
  return key !== "";
}

/**
 * Seconds until a refused request may be sent again; null where that would not help or has been done often enough.
 * @param {number} status
 * @param {string | null} header Retry-After
 * @param {number} tries so many were refused
 */
export function patience(status, header, tries) {
  const seconds = Number(header ?? NaN);
  const later = (status === 429 || status === 503) && seconds >= 0;
  return later && tries <= TRIES ? Math.min(seconds, LONGEST_WAIT) : null;
}

/**
 * @param {string} path
 * @param {RequestInit & {waiting?: (seconds: number) => void}} options `waiting` is told when the service is too busy
 *   and is asked again later
 * @returns {Promise<Response>} an answer that is no error
 */
export async function call(path, { waiting, ...options } = {}) {
  const headers = new Headers(options.headers);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  for (let tries = 1; ; tries += 1) {
    const response = await reach(path, { ...options, headers });
    if (response.ok) return response;
    const seconds = patience(response.status, response.headers.get("Retry-After"), tries);
    if (seconds === null) throw await problem(response);
    waiting?.(seconds);
    await pause(seconds, options.signal);
  }
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ detail: "The service can't be reached.", hint: "Is it still running, and the network there?", status: 0 });
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

async function problem(response) {
  const explained = response.headers.get("content-type")?.startsWith("application/problem+json");
  if (explained) return new Problem(await response.json());
  return new Problem({
    detail: `the service answered ${response.status} ${response.statusText}`,
    hint: "a proxy between this page and the service may be in the way",
    status: response.status,
  });
}

const address = (name) => `v1/collections/${encodeURIComponent(name)}`;

/** The path of a document. */
export const documentPath = (name, id) => `${address(name)}/documents/${encodeURIComponent(id)}`;

/**
 * What the service says of each collection, by name and by alias; of one that can't be opened, its `problem`.
 * @returns {Promise<Map<string, object>>} in the order of the names
 */
export async function collections() {
  const { collections: all, aliases } = await (await call("v1/collections")).json();
  const known = new Map(all.map((info) => [info.name, info]));
  const named = Object.entries(aliases).map(([alias, name]) => [alias, known.get(name)]);
  return new Map([...known, ...named.filter(([, info]) => info)].sort(([one], [other]) => (one < other ? -1 : 1)));
}

/**
 * One search.
 * @param {File | null} picture
 * @param {{signal: AbortSignal, waiting?: (seconds: number) => void}} options `signal` ends it when a newer one begins
 */
export async function search(name, request, picture, options) {
  const response = await call(`${address(name)}/search`, { method: "POST", ...body(request, picture), ...options });
  return response.json();
}

function body(request, picture) {
  const text = JSON.stringify(request);
  if (!picture) return { headers: { "Content-Type": "application/json" }, body: text };
  const form = new FormData();
  form.append("request", text);
  form.append("image", picture);
  return { body: form };
}

/** The first documents of a collection. */
export async function firstDocuments(name, limit, signal) {
  return (await (await call(`${address(name)}/documents?limit=${limit}`, { signal })).json()).documents;
}

/** A thumbnail of at most `size` pixels a side. */
export async function thumbnail(name, id, size, signal) {
  return (await call(`${documentPath(name, id)}/image?size=${size}`, { signal })).blob();
}
