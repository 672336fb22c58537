// The recommendations. Here: asking for them after each change, and their list. Not here: what is asked
// for (`store.js`, `options.js`, `tune.js`).

import { Job, post } from "./api.js";
import { $, say } from "./dom.js";
import { heartOf, learn, nameOf, neverButton, replaceRows, row, songOf } from "./songs.js";
import { store } from "./store.js";

const STEP = 12; // songs at first, and more with each "More songs"
const MOST = 500; // songs in one answer of the service
const PAUSE = 120; // milliseconds without further input before a request is sent

/** Dispatches `answer` when there is a new one. */
class Recommendations extends EventTarget {
  /** The last answer of the service, null before the first. */
  answer = null;
  #wanted = STEP;
  #asking = null;
  #pausing = 0;
  #job = new Job(() => this.#ask(), showProblem);

  /** Songs of the answer, best first. */
  get items() {
    return this.answer?.items ?? [];
  }

  /** Ask for recommendations when there was no change for a moment. */
  askSoon() {
    clearTimeout(this.#pausing);
    this.#job.stop();
    this.#pausing = setTimeout(() => this.askNow(), PAUSE);
  }

  askNow() {
    clearTimeout(this.#pausing);
    return this.#job.run();
  }

  /** As many again below those that are shown. */
  async more() {
    this.#wanted = Math.min(MOST, Math.max(this.items.length, this.#wanted) + STEP);
    await this.askNow();
  }

  /** Begin with the first few again. */
  fewer() {
    this.#wanted = STEP;
  }

  async #ask() {
    this.#asking?.abort();
    this.#asking = new AbortController();
    const mine = this.#asking;
    $("recommendations").classList.add("loading");
    try {
      this.answer = await post("recommendations", store.query(this.#wanted), mine.signal);
    } finally {
      if (mine === this.#asking) $("recommendations").classList.remove("loading");
    }
    learn(this.answer.items);
    this.show();
    say(`${this.items.length} recommendations`);
    this.dispatchEvent(new Event("answer"));
  }

  show() {
    const { answer, items } = this;
    if (!answer) return;
    replaceRows(
      $("recommendations"),
      items.map((song, place) =>
        row(song, {
          where: "recommendations",
          rank: place + 1,
          reasons: song.reasons,
          actions: [heartOf(song), neverButton(song)],
        }),
      ),
    );
    const popular = answer.degraded !== null && items.length > 0;
    $("degraded").hidden = !popular;
    $("degraded").textContent = popular ? `Not personal yet: ${answer.degraded}.` : "";
    showUnknown(answer);
    $("nothing").hidden = items.length > 0;
    $("more").hidden = items.length < this.#wanted || this.#wanted >= MOST;
  }
}

function showUnknown({ unknown, found }) {
  $("unknown").hidden = !unknown.length;
  if (!unknown.length) return;
  const artists = new Map([...store.artists, ...store.notArtists].map((artist) => [artist.artist_id, artist.name]));
  const shown = unknown.slice(0, 5).map((id) => artists.get(id) ?? nameOf(songOf(id)));
  const more = unknown.length > shown.length ? ` and ${unknown.length - shown.length} more` : "";
  $("unknown").textContent = `${found} of your songs found. Not in this catalogue: ${shown.join(", ")}${more}.`;
}

export function showProblem(error) {
  $("problem").hidden = error === null;
  if (error) $("problem").querySelector("p").textContent = error.message;
}

export const recommendations = new Recommendations();

export function startRecommendations() {
  store.addEventListener("change", () => recommendations.askSoon());
  $("more").addEventListener("click", async () => {
    const before = recommendations.items.length;
    await recommendations.more();
    // The keyboard goes on with the first of the new songs.
    document.querySelectorAll("#recommendations .song .name")[before]?.focus({ preventScroll: true });
  });
  $("again").addEventListener("click", () => recommendations.askNow());
  recommendations.askNow();
}
