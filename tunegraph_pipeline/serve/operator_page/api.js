// Requests to the service, with its key. Here: the key while the page is open, requests, and their errors.
// Not here: what is done with the answers. The key is in a header of each request, and in no address.

const STORED = "tunegraph-operator-key";

let key = null;

/** The service does not accept the key. */
export class KeyError extends Error {}

/** An error with a message for a person. */
export class ServiceError extends Error {}

/** Use a key from now on; `keep` it until the tab is closed. */
export function useKey(given, keep) {
  key = given;
  if (keep) sessionStorage.setItem(STORED, given);
}

export function forgetKey() {
  key = null;
  sessionStorage.removeItem(STORED);
}

/** Whether there is a key, also one that this tab has kept. */
export function hasKey() {
  key ??= sessionStorage.getItem(STORED);
  return key !== null;
}

async function ask(path, { body = null, signal = null } = {}) {
  const headers = { Authorization: `Bearer ${key}` };
  if (body !== null) headers["Content-Type"] = "application/json";
  let response;
  try {
    // The address is relative to the page, which a proxy may have put below a prefix.
    response = await fetch(path, {
      method: body === null ? "GET" : "POST",
      headers,
      body: body === null ? null : JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
      referrerPolicy: "no-referrer",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError("The service is not responding.");
  }
  if (response.ok) return response.json();
  if (response.status === 429) {
    const seconds = Math.ceil(Number(response.headers.get("Retry-After")) || 1);
    throw new ServiceError(`Too many requests; try again in ${seconds} s.`);
  }
  const problem = await response.json().catch(() => ({}));
  const text = problem.detail ?? problem.title ?? `status ${response.status}`;
  throw response.status === 401 ? new KeyError("The service does not accept this key.") : new ServiceError(text);
}

/** The answer of `/operator/SUBJECT`. */
export const subject = (name, signal) => ask(`operator/${name}`, { signal });

/** Some users, and how many there are. */
export const users = (parameters, signal) => ask(`operator/users?${new URLSearchParams(parameters)}`, { signal });

/** The list of a user in a bundle, by default the live one. */
export const user = (id, version, signal) =>
  ask(`operator/users/${encodeURIComponent(id)}${version ? `?${new URLSearchParams({ version })}` : ""}`, { signal });

/** Recommendations of a bundle, with the parts of their scores. */
export const recommend = (query, signal) => ask("operator/recommendations", { body: query, signal });

/** Songs by name or artist. */
export const songs = async (text, signal) =>
  (await ask(`tracks?${new URLSearchParams({ query: text, limit: "8" })}`, { signal })).items;
