// Bringing one's music. Here: the sheet where lines, links and files are given, dropping files on the page, and what is
// done with the songs found. Not here: reading and matching them, which the service does and forgets.

import { ServiceError, post, send } from "./api.js";
import { $, closeSheet, count, element, offerUndo, openSheet, textButton } from "./dom.js";
import { learn } from "./songs.js";
import { store } from "./store.js";

const MOST_SHOWN = 200; // of the songs not found
const LARGE = 16 * 2 ** 20; // bytes of a file that a service may refuse

function textPart(given = "") {
  const field = element(
    "textarea",
    { class: "field", rows: "5", "aria-label": "Links or lines", placeholder: "A playlist link, or one song a line:\nRadiohead - Creep\nhttps://open.spotify.com/track/…" },
    given,
  );
  const file = element("input", { type: "file", class: "unseen", tabindex: "-1", "aria-label": "A file of songs" });
  file.addEventListener("change", () => file.files[0] && bringFile(file.files[0]));
  return [
    element("p", {}, "Paste a playlist link or songs, or drop a file: an export of Spotify or another service, CSV, JSPF, M3U, zip."),
    field,
    element(
      "div",
      { class: "row" },
      textButton("main", null, "Find my songs", () => field.value.trim() && bringText(field.value)),
      textButton("", "bring", "Choose a file", () => file.click()),
      file,
    ),
    element("p", { class: "hint" }, "The service matches them and forgets them at once."),
  ];
}

function openBring() {
  openSheet("Bring my music", ...textPart()).querySelector("textarea").focus();
}

const bringText = (text) => bring(() => post("matches", { text }), text);
const bringFile = (file) => bring(() => sent(file), "");

async function sent(file) {
  try {
    return await send("matches", file, { name: file.name });
  } catch (error) {
    // A browser does not show the answer to a file that was refused before all of it was sent.
    if (error.status !== 0 || file.size < LARGE) throw error;
    const size = Math.round(file.size / 2 ** 20).toLocaleString("en");
    throw new ServiceError(`The service did not take ${file.name}: with ${size} MiB it may be too large.`);
  }
}

async function bring(ask, given) {
  openSheet("Bring my music", element("p", { class: "hint", role: "status" }, "Looking for your songs…"));
  try {
    showFound(await ask());
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    openSheet("Bring my music", element("p", { class: "note problem", role: "alert" }, error.message), ...textPart(given));
  }
}

function showFound({ format, lists, items, not_found: missing, n_not_found: nMissing, notes }) {
  learn(items);
  const ids = (opinion) => [...new Set(items.filter((item) => item.opinion === opinion).map((item) => item.track_id))];
  const likes = ids("like");
  const songs = { likes, dislikes: ids("dislike").filter((id) => !likes.includes(id)) };
  const total = items.length + nMissing;
  const name = lists.length === 1 ? lists[0].name : "";
  const before = store.snapshot();
  const choose = (text, icon, act) => textButton("", icon, text, () => {
    act();
    closeSheet();
    offerUndo(`${count(likes.length, "song")} brought`, () => store.restore(before));
  });
  const add = () => {
    store.dislike(...songs.dislikes);
    store.like(...likes);
  };
  const wasEmpty = store.isEmpty && items.length > 0;
  // Into an empty list they go at once, since nothing can be lost.
  if (wasEmpty) add();
  const buttons = !items.length
    ? []
    : wasEmpty
      ? [textButton("main", null, "See what is recommended", closeSheet)]
      : [
          choose(`Add to ${store.name}`, "like", add),
          choose(`Replace ${store.name}`, "remove", () => store.replace(songs)),
          textButton("", "lists", "Make a new list", () => {
            store.make(name || "My music", songs);
            closeSheet();
          }),
        ];
  openSheet(
    "Bring my music",
    element("p", { class: "found-count" }, element("strong", {}, `${items.length.toLocaleString("en")} of ${count(total, "song")} found`)),
    element("p", { class: "hint" }, format, name ? `: ${name}` : "", "."),
    ...notes.map((note) => element("p", { class: "note" }, note)),
    wasEmpty ? element("p", {}, `They are in ${store.name} now.`) : null,
    element("div", { class: "row" }, ...buttons),
    nMissing ? missingPart(missing, nMissing) : null,
    textButton("quiet", "bring", "Bring something else", openBring),
  );
}

function missingPart(missing, number) {
  const shown = missing.slice(0, MOST_SHOWN);
  const more = number - shown.length;
  return element(
    "details",
    { class: "missing" },
    element("summary", {}, `${count(number, "song")} not found`),
    element(
      "ul",
      {},
      ...shown.map(({ given, why }) => element("li", {}, given, element("small", {}, ` ${why}`))),
      more > 0 ? element("li", { class: "hint" }, `and ${more.toLocaleString("en")} more`) : null,
    ),
  );
}

export function startBring() {
  $("bring").addEventListener("click", openBring);
  const carriesFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && document.body.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!carriesFile(event)) return;
    event.preventDefault();
    const file = event.dataTransfer.files[0];
    if (file) bringFile(file);
  });
}
