// Requests of the page to the service. Here: the requests, their errors, and trying again. Not here: what is done
// with the answers.

/**
 * An error with a message for the listener. `passing`: whether asking again later may help; `retryAfter` is then in
 * seconds, null if unknown. `status` is that of the answer, 0 if there was none.
 */
export class ServiceError extends Error {
  constructor(message, { status = 0, passing = true, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, passing, retryAfter });
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
  const { status } = response;
  if (response.ok) return response.json();
  if (status === 429) {
    const retryAfter = Number(response.headers.get("Retry-After")) || 1;
    const message = `Too many requests; trying again in ${Math.ceil(retryAfter)} s.`;
    throw new ServiceError(message, { status, retryAfter });
  }
  const problem = await response.json().catch(() => ({}));
  const message = `The service reports: ${problem.detail ?? problem.title ?? `status ${status}`}`;
  throw new ServiceError(message, { status, passing: status >= 500 });
}

/** The answer to a GET with these parameters; those that are null are left out. */
export function get(path, parameters = {}, signal = undefined) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  return ask(query ? `${path}?${query}` : path, { signal });
}

/** The answer to a POST of JSON. */
export function post(path, body, signal = undefined) {
  const headers = { "Content-Type": "application/json" };
  return ask(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

/** The answer to a POST of a file. */
export function send(path, file, parameters = {}) {
  const headers = { "Content-Type": "application/octet-stream" };
  return ask(`${path}?${new URLSearchParams(parameters)}`, { method: "POST", headers, body: file });
}

/** The path of something about a song, such as "similar". */
export function ofTrack(id, what) {
  // Only slashes are kept: ids may contain any other sign.
  return `tracks/${id.split("/").map(encodeURIComponent).join("/")}/${what}`;
}

const AT_ONCE = 100; // ids in one address

/** The known songs of these ids, in their order. */
export async function tracks(ids) {
  const found = [];
  for (let start = 0; start < ids.length; start += AT_ONCE) {
    const answer = await get("tracks", { ids: ids.slice(start, start + AT_ONCE).join(",") });
    found.push(...answer.items);
  }
  return found;
}

const LONGEST_PAUSE = 30; // seconds
const waiting = new Set();

/**
 * A job that is tried until it succeeds: again after a while where an error may pass, and at once when the browser is
 * online again or the page is looked at again. `show(error)` is called with each error, and with null when it is over.
 */
export class Job {
  #timer = 0;
  #tries = 0;

  constructor(work, show) {
    this.work = work;
    this.show = show;
  }

  async run() {
    this.stop();
    try {
      await this.work();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ServiceError)) throw error;
      this.show(error);
      if (!error.passing) return;
      this.#tries += 1;
      const pause = error.retryAfter ?? Math.min(LONGEST_PAUSE, 2 ** (this.#tries - 1));
      waiting.add(this);
      this.#timer = setTimeout(() => this.run(), 1000 * pause);
      return;
    }
    this.#tries = 0;
    this.show(null);
  }

  stop() {
    clearTimeout(this.#timer);
    waiting.delete(this);
  }
}

function tryNow() {
  for (const job of [...waiting]) job.run();
}

addEventListener("online", tryNow);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") tryNow();
});
