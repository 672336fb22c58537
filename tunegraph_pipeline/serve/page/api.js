// Requests of the page to the service. Here: the requests and their errors. Not here: what is done with the answers.

/** An error with a message for the user. `retryAfter` is in seconds, null if unknown. */
export class ServiceError extends Error {
  constructor(message, retryAfter = null) {
    super(message);
    this.retryAfter = retryAfter;
  }
}

// Addresses are relative to the page, which a proxy may have put below a prefix.
async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError("The service is not responding.");
  }
  if (response.ok) return response;
  if (response.status === 429) {
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    throw new ServiceError(`Too many requests; trying again in ${Math.ceil(seconds)} s.`, seconds);
  }
  const problem = await response.json().catch(() => ({}));
  throw new ServiceError(`The service reports: ${problem.detail ?? problem.title ?? `status ${response.status}`}`);
}

function post(path, body, signal) {
  return ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
}

/** Recommendations for a query, as documented at /docs. */
export async function recommend(query, signal) {
  return (await post("recommendations", query, signal)).json();
}

/** The same as a file in the format csv, m3u or uris. */
export async function recommendAs(format, query) {
  return (await post(`recommendations?format=${format}`, query)).blob();
}

/** Songs by name or artist, best first. */
export async function search(text, signal) {
  const found = await ask(`tracks?${new URLSearchParams({ query: text, limit: "8" })}`, { signal });
  return (await found.json()).items;
}

/** The known songs of these ids, in their order. */
export async function tracks(ids) {
  const found = [];
  for (let start = 0; start < ids.length; start += 50) {
    const some = ids.slice(start, start + 50).join(",");
    const answer = await (await ask(`tracks?${new URLSearchParams({ ids: some })}`)).json();
    found.push(...answer.items);
  }
  return found;
}

/** The most liked songs with their positions. */
export async function mapPoints() {
  return (await (await ask("map?limit=4000")).json()).points;
}

export async function version() {
  return (await ask("version")).json();
}
