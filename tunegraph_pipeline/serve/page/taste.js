// The songs and artists of the open list. Here: showing them. Not here: changing them (`store.js`), or other lists (`lists_sheet.js`).

import { Job } from "./api.js";
import { $, element, iconButton, offerUndo, textButton } from "./dom.js";
import { showProblem } from "./recommendations.js";
import { forget, lookUp, replaceRows, row, songOf, titleOf } from "./songs.js";
import { showArtist } from "./sheets.js";
import { store } from "./store.js";

const STEP = 100; // rows at first, and more with each "Show more"
const MOST_LEARNT = 400; // songs looked up at once, the newest, which the map shows too

let nShown = STEP;

const learning = new Job(async () => {
  if (await lookUp([...store.likes.slice(-Math.max(nShown, MOST_LEARNT)), ...store.dislikes.slice(-nShown)])) {
    show();
    document.dispatchEvent(new Event("songs-learned"));
  }
}, showProblem);

function show() {
  replaceRows(
    $("likes"),
    store.likes.slice(-nShown).reverse().map((id) => {
      const song = songOf(id);
      const drop = iconButton("drop", "remove", `Remove ${titleOf(song)} from your songs`, () => forget(song));
      return row(song, { where: "likes", actions: [drop] });
    }),
  );
  replaceRows(
    $("dislikes"),
    store.dislikes.slice(-nShown).reverse().map((id) => {
      const song = songOf(id);
      const allow = iconButton("drop", "allow", `Allow ${titleOf(song)} again`, () => store.forget(id));
      return row(song, { where: "dislikes", actions: [allow] });
    }),
  );
  showArtists($("artists"), store.artists, "remove", (name) => `Remove ${name} from your artists`);
  showArtists($("not-artists"), store.notArtists, "allow", (name) => `Allow ${name} again`);
  $("n-likes").textContent = store.likes.length ? store.likes.length.toLocaleString("en") : "";
  $("more-likes").hidden = Math.max(store.likes.length, store.dislikes.length) <= nShown;
  $("no-likes").hidden = !store.isEmpty;
  const never = store.dislikes.length + store.notArtists.length;
  $("disliked").hidden = !never;
  $("n-disliked").textContent = String(never);
  $("clear").hidden = store.isEmpty;
}

function showArtists(list, artists, name, label) {
  list.hidden = !artists.length;
  list.replaceChildren(
    ...artists.toReversed().map((artist) =>
      element(
        "li",
        {},
        textButton("who", "artist", artist.name, () => showArtist(artist)),
        iconButton("drop", name, label(artist.name), () => store.forgetArtist(artist)),
      ),
    ),
  );
}

export function startTaste() {
  store.addEventListener("change", () => {
    show();
    learning.run();
  });
  $("clear").addEventListener("click", () => {
    const before = store.snapshot();
    store.clear();
    $("search").focus();
    offerUndo("All songs removed from this list", () => store.restore(before));
  });
  $("more-likes").addEventListener("click", () => {
    nShown += STEP;
    show();
    learning.run();
  });
  // On a phone the recommendations come first, and one's own songs are folded.
  if (matchMedia("(max-width: 720px)").matches) $("yours").open = false;
  show();
  learning.run();
}
