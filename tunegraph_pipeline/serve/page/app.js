// The page: starts its parts. Here: their order, and what belongs to none. Not here: anything else.
//
// The parts meet in `store.js`: a listener's action changes the store, its `change` event makes each part show itself
// anew, and `recommendations.js` ask again.

import { Job, get } from "./api.js";
import { startBring } from "./bring.js";
import { $, drawIcons, element, say, startSheet } from "./dom.js";
import { startLists } from "./lists_sheet.js";
import { startMap } from "./map_view.js";
import { startOptions } from "./options.js";
import { startPlayer } from "./player.js";
import { recommendations, showProblem, startRecommendations } from "./recommendations.js";
import { startSave } from "./save_sheet.js";
import { startSearch } from "./search.js";
import { startSheets } from "./sheets.js";
import { store } from "./store.js";
import { startTaste } from "./taste.js";
import { startTogether } from "./together.js";
import { startTune } from "./tune.js";

drawIcons();
store.readOptionsOfLink();
const parts = [
  startSheet,
  startOptions,
  startLists,
  startSearch,
  startBring,
  startSheets,
  startPlayer,
  startSave,
  startTaste,
  startMap,
  startTune,
  startTogether,
  startRecommendations,
];
for (const start of parts) start();

new Job(async () => {
  const live = await get("version");
  $("version").textContent = `Catalogue ${live.bundle_version}.`;
  $("licences").replaceChildren("About the data: ");
  live.licences.forEach(({ data, terms, url }, place) => {
    const shown = url.startsWith("https://") ? element("a", { href: url, rel: "noreferrer" }, terms) : terms;
    $("licences").append(place ? "; " : "", `${data}: `, shown);
  });
  $("licences").hidden = !live.licences.length;
}, showProblem).run();

$("share").addEventListener("click", async () => {
  const text = $("share").querySelector("span");
  try {
    await navigator.clipboard.writeText(store.link());
    text.textContent = "Copied";
    say("Link copied");
  } catch {
    // Without permission to write to the clipboard, the link goes to the address bar.
    history.replaceState(null, "", store.link());
    text.textContent = "In the address bar";
    say("The link is in the address bar");
  }
  setTimeout(() => (text.textContent = "Copy link"), 2500);
});

for (const one of document.querySelectorAll("[data-goto]")) {
  one.addEventListener("click", () => {
    const target = $(one.dataset.goto);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    target.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
    target.focus({ preventScroll: true });
  });
}

// The browser does not reload the page when only the fragment of a link differs.
addEventListener("hashchange", () => {
  if (!store.openLink(location.hash)) return;
  store.readOptionsOfLink();
  recommendations.fewer();
  store.dispatchEvent(new Event("change"));
});
