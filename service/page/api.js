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

let key = "";

/** Carry this key from now on. */
export function useKey(text) {
  key = text;
}

/**
 * @param {string} path
 * @param {RequestInit} options
 * @returns {Promise<Response>} an answer that is no error
 */
async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  const response = await fetch(path, { ...options, headers });
  if (!response.ok) throw await problem(response);
  return response;
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

/** Names of the collections and of their aliases. */
export async function collections() {
  const { collections: all, aliases } = await (await call("v1/collections")).json();
  return [...all.map(({ name }) => name), ...Object.keys(aliases)].sort();
}

/** One search; `signal` ends it when a newer one has begun. */
export async function search(name, request, signal) {
  const response = await call(`${address(name)}/search`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(request),
    signal,
  });
  return response.json();
}

/** A thumbnail. */
export async function thumbnail(name, id, signal) {
  const path = `${address(name)}/documents/${encodeURIComponent(id)}/image?size=192`;
  return (await call(path, { signal })).blob();
}
