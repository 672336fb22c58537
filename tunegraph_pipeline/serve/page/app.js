// The page: user actions change the taste, and each change fetches and shows new recommendations.
// Everything from the service is inserted as text, never as HTML.

import * as api from "./api.js";
import { cover } from "./cover.js";
import { SongMap } from "./map.js";
import { SERVICES, Taste } from "./taste.js";

const K = 12;
const PAUSE = 120; // milliseconds without further input before a request is sent

const $ = (id) => document.getElementById(id);
const taste = new Taste();
const known = new Map(); // all songs seen so far, by id

let answer = null;
let asking = null;
let retry = 0;

// --- making elements ---

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const nameOf = (song) => song.name || song.track_id;
const titleOf = (song) => (song.artists ? `${nameOf(song)} by ${song.artists}` : nameOf(song));

function button(kind, label, sign, act) {
  return element("button", { type: "button", class: kind, "aria-label": label, title: label, onclick: act }, sign);
}

function reasonOf(reasons) {
  if (!reasons.length) return null;
  const line = element("p", { class: "reason" }, "because you like ");
  reasons.forEach((reason, place) => {
    const listeners = reason.listeners === 1 ? "1 listener likes" : `${reason.listeners.toLocaleString()} listeners like`;
    line.append(
      place ? " and " : "",
      element("strong", { title: reason.artists }, reason.name || reason.track_id),
      reason.listeners ? ` (${listeners} both)` : "",
    );
  });
  return line;
}

/** A row of a list. `rank` is its number on the map, null if it has none. */
function row(song, rank, reason, ...actions) {
  const made = element(
    "li",
    { class: "song", "data-track": song.track_id },
    element(
      "div",
      { class: "picture" },
      cover(song, taste.media),
      rank === null ? null : element("span", { class: "rank", "aria-hidden": "true" }, String(rank)),
    ),
    element(
      "div",
      { class: "title" },
      element(
        "p",
        { class: "name" },
        nameOf(song),
        song.explicit ? element("span", { class: "mark", title: "explicit" }, "E") : null,
      ),
      song.artists || song.year
        ? element("p", { class: "artists" }, [song.artists, song.year].filter(Boolean).join(" · "))
        : null,
    ),
    reason,
    element("div", { class: "actions" }, pageOf(song), player(song), ...actions),
  );
  made.addEventListener("pointerenter", () => map.mark(song));
  made.addEventListener("pointerleave", () => map.mark(null));
  return made;
}

/** A link to the page about a song in a service. */
function pageOf(song) {
  if (!song.link?.startsWith("https://")) return null;
  const label = `${titleOf(song)}, on ${new URL(song.link).hostname.replace(/^(www|open|music)\./, "")}`;
  return element(
    "a",
    { class: "page", href: song.link, target: "_blank", rel: "noopener noreferrer", title: label, "aria-label": label },
    "↗",
  );
}

function say(text) {
  $("said").textContent = text;
}

// --- playing previews, one at a time ---

const sound = new Audio();
sound.preload = "none";
let playing = null;

function player(song) {
  if (!taste.media || !song.preview_url?.startsWith("https://")) return null;
  const made = button("play", `Play a preview of ${titleOf(song)}`, "▶", () => toggle(song, made));
  made.setAttribute("aria-pressed", String(playing?.id === song.track_id));
  if (playing?.id === song.track_id) {
    playing.button = made;
    made.textContent = "❚❚";
  }
  return made;
}

function silence() {
  sound.pause();
  if (!playing) return;
  playing.button.setAttribute("aria-pressed", "false");
  playing.button.textContent = "▶";
  playing = null;
}

function toggle(song, pressed) {
  const again = playing?.id === song.track_id;
  silence();
  if (again) return;
  playing = { id: song.track_id, button: pressed };
  pressed.setAttribute("aria-pressed", "true");
  pressed.textContent = "❚❚";
  sound.src = song.preview_url;
  sound.play().catch((error) => {
    if (error.name === "AbortError") return;
    silence();
    say("This preview cannot be played.");
  });
}

sound.addEventListener("ended", silence);

// --- liking and not ---

function like(song) {
  if (!known.has(song.track_id)) known.set(song.track_id, song);
  taste.like(song.track_id);
  say(`${titleOf(song)}: added to your songs`);
}

function dislike(song) {
  const before = { likes: taste.likes, dislikes: taste.dislikes };
  known.set(song.track_id, song);
  taste.dislike(song.track_id);
  offerUndo(`Not for me: ${titleOf(song)}`, before);
}

function forget(song) {
  taste.forget(song.track_id);
  say(`${titleOf(song)}: removed from your list`);
}

let undoing = 0;

function offerUndo(what, before) {
  const box = $("undo");
  box.querySelector("span").textContent = what;
  box.querySelector("button").onclick = () => {
    box.hidden = true;
    taste.restore(before);
    say("Undone");
  };
  box.hidden = false;
  clearTimeout(undoing);
  undoing = setTimeout(() => {
    // Stays while it has the focus, since the user may be about to press it.
    if (!box.contains(document.activeElement)) box.hidden = true;
  }, 8000);
  say(`${what}. You can undo this.`);
}

// --- showing ---

/** Replace the rows of a list and keep the keyboard focus. */
function replace(list, rows) {
  const held = list.contains(document.activeElement) ? document.activeElement : null;
  const at = held?.closest(".song")?.dataset.track;
  const kind = held?.className;
  const order = [...list.children].findIndex((one) => one.dataset.track === at);
  list.replaceChildren(...rows);
  if (!held) return;
  const same = rows.find((one) => one.dataset.track === at) ?? rows[Math.min(Math.max(order, 0), rows.length - 1)];
  (same?.querySelector(`button.${kind}`) ?? same?.querySelector("button") ?? $("search")).focus();
}

function showTaste() {
  const songOf = (id) => known.get(id) ?? { track_id: id, name: "", artists: "", x: 0.5, y: 0.5 };
  replace(
    $("likes"),
    taste.likes.toReversed().map((id) => {
      const song = songOf(id);
      return row(song, null, null, button("drop", `Remove ${titleOf(song)} from your songs`, "×", () => forget(song)));
    }),
  );
  replace(
    $("dislikes"),
    taste.dislikes.toReversed().map((id) => {
      const song = songOf(id);
      return row(song, null, null, button("drop", `Allow ${titleOf(song)} again`, "↩", () => forget(song)));
    }),
  );
  $("no-likes").hidden = taste.likes.length > 0;
  $("disliked").hidden = !taste.dislikes.length;
  $("n-disliked").textContent = String(taste.dislikes.length);
  $("clear").hidden = !taste.likes.length && !taste.dislikes.length;
  $("familiarity").value = String(taste.familiarity);
  $("diversity").value = String(taste.diversity);
  for (const id of ["familiarity", "diversity"]) $(id).setAttribute("aria-valuetext", `${Math.round(taste[id] * 100)} %`);
  $("max-per-artist").value = taste.maxPerArtist === null ? "" : String(taste.maxPerArtist);
  $("explicit").checked = taste.explicit;
  $("links").value = taste.links ?? "";
  $("media").checked = taste.media;
  markFound();
}

function showAnswer() {
  const items = answer.items;
  for (const song of items) known.set(song.track_id, song);
  replace(
    $("recommendations"),
    items.map((song, place) =>
      row(
        song,
        place + 1,
        reasonOf(song.reasons),
        button("like", `I like ${titleOf(song)}`, "♥", () => like(song)),
        button("dislike", `${titleOf(song)} is not for me`, "✕", () => dislike(song)),
      ),
    ),
  );
  const popular = answer.degraded !== null && items.length > 0;
  $("degraded").hidden = !popular;
  $("degraded").textContent = popular ? `Not personal yet: ${answer.degraded}.` : "";
  const lost = answer.unknown;
  $("unknown").hidden = !lost.length;
  if (lost.length) {
    const shown = lost.slice(0, 5).map((id) => nameOf(known.get(id) ?? { track_id: id }));
    const more = lost.length > shown.length ? ` and ${lost.length - shown.length} more` : "";
    $("unknown").textContent =
      `${answer.found} of your songs found. Not in this catalogue: ${shown.join(", ")}${more}.`;
  }
  $("nothing").hidden = items.length > 0;
  showOnMap();
  say(`${items.length} recommendations`);
}

function showOnMap() {
  const liked = taste.likes.map((id) => known.get(id)).filter((song) => song?.x !== undefined);
  map.setSongs(liked, answer?.items ?? []);
}

// --- asking ---

let pausing = 0;

function askSoon() {
  clearTimeout(pausing);
  clearTimeout(retry);
  pausing = setTimeout(askNow, PAUSE);
}

async function askNow() {
  clearTimeout(pausing);
  clearTimeout(retry);
  asking?.abort();
  asking = new AbortController();
  const mine = asking;
  $("recommendations").classList.add("loading");
  try {
    answer = await api.recommend(taste.query(K), mine.signal);
    $("problem").hidden = true;
    showAnswer();
  } catch (error) {
    if (error.name === "AbortError") return;
    showProblem(error);
  }
  if (mine === asking) $("recommendations").classList.remove("loading");
}

function showProblem(error) {
  if (!(error instanceof api.ServiceError)) throw error;
  $("problem").querySelector("p").textContent = error.message;
  $("problem").hidden = false;
  if (error.retryAfter !== null) retry = setTimeout(askNow, 1000 * error.retryAfter);
}

async function learnSongs() {
  // For songs chosen on the map, only the name is known.
  const missing = [...taste.likes, ...taste.dislikes].filter((id) => known.get(id)?.image_url === undefined);
  if (!missing.length) return;
  for (const id of missing) known.set(id, { track_id: id, name: "", artists: "", ...known.get(id), image_url: "" });
  try {
    for (const song of await api.tracks(missing)) known.set(song.track_id, song);
  } catch (error) {
    showProblem(error);
    return;
  }
  showTaste();
  showOnMap();
}

// --- searching ---

let found = [];
let foundFor = ""; // the text searched for
let active = -1;
let searching = null;
let typing = 0;

function showFound(songs) {
  found = songs;
  active = -1;
  $("found").replaceChildren(
    ...songs.map((song, place) =>
      element(
        "li",
        {
          role: "option",
          id: `found-${place}`,
          onpointerdown: (event) => event.preventDefault(), // keeps the focus in the search field
          onclick: () => choose(place),
        },
        element("span", { class: "tick", "aria-hidden": "true" }),
        element(
          "span",
          {},
          element("span", { class: "name" }, nameOf(song)),
          element("span", { class: "artists" }, song.artists ? ` ${song.artists}` : ""),
        ),
      ),
    ),
  );
  open(songs.length > 0);
  markFound();
}

function markFound() {
  [...$("found").children].forEach((option, place) => {
    const ticked = taste.likes.includes(found[place].track_id);
    option.setAttribute("aria-selected", String(ticked));
    option.querySelector(".tick").textContent = ticked ? "✓" : "";
  });
}

function open(yes) {
  $("found").hidden = !yes;
  $("search").setAttribute("aria-expanded", String(yes));
  if (!yes) activate(-1);
}

function activate(place) {
  active = place;
  [...$("found").children].forEach((option, other) => option.classList.toggle("active", other === place));
  if (place < 0) $("search").removeAttribute("aria-activedescendant");
  else {
    $("search").setAttribute("aria-activedescendant", `found-${place}`);
    $(`found-${place}`).scrollIntoView({ block: "nearest" });
  }
}

function choose(place) {
  const song = found[place];
  if (taste.likes.includes(song.track_id)) forget(song);
  else like(song);
}

async function searchNow() {
  const text = $("search").value.trim();
  searching?.abort();
  searching = new AbortController();
  $("search-note").hidden = true;
  if (!text) {
    foundFor = "";
    showFound([]);
    return;
  }
  try {
    const songs = await api.search(text, searching.signal);
    foundFor = text;
    showFound(songs);
    $("search-note").hidden = songs.length > 0;
    $("search-note").textContent = "No songs found.";
    say(songs.length ? `${songs.length} songs found` : "No songs found");
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof api.ServiceError)) throw error;
    $("search-note").hidden = false;
    $("search-note").textContent = error.message;
    if (error.retryAfter !== null) typing = setTimeout(searchNow, 1000 * error.retryAfter);
  }
}

$("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(searchNow, PAUSE);
});

$("search").addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    open(false);
    return;
  }
  if (event.key === "Enter" && $("search").value.trim() !== foundFor) {
    // The results shown are for an earlier text, so do not choose from them.
    clearTimeout(typing);
    searchNow();
    event.preventDefault();
    return;
  }
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && found.length) {
    open(true);
    activate((active + step + found.length + (active < 0 && step < 0 ? 1 : 0)) % found.length);
  } else if (event.key === "Enter" && !$("found").hidden) {
    choose(active < 0 ? 0 : active);
  } else return;
  event.preventDefault();
});

$("search").addEventListener("focus", () => open(found.length > 0));
$("search").addEventListener("blur", () => open(false));

// --- the map ---

let announced = null;

const map = new SongMap(
  $("map"),
  (song) => {
    const tip = $("tip");
    for (const one of document.querySelectorAll(".song.pointed")) one.classList.remove("pointed");
    tip.hidden = !song;
    if (!song) {
      announced = null;
      return;
    }
    tip.textContent = titleOf(song);
    const [left, top] = map.placeOf(song);
    const box = $("map").getBoundingClientRect();
    // Above the song, or below it if there is no room, and within the sides.
    tip.style.left = `${Math.min(Math.max(left - tip.offsetWidth / 2, 4), box.width - tip.offsetWidth - 4)}px`;
    tip.style.top = `${top - tip.offsetHeight > 20 ? top - tip.offsetHeight - 16 : top + 16}px`;
    for (const one of document.querySelectorAll(".song")) {
      one.classList.toggle("pointed", one.dataset.track === song.track_id);
    }
    if (song !== announced) say(titleOf(song));
    announced = song;
  },
  (song) => {
    if (taste.likes.includes(song.track_id)) forget(song);
    else like(song);
  },
);

$("closer").addEventListener("click", () => map.zoom(1.5));
$("farther").addEventListener("click", () => map.zoom(1 / 1.5));
$("whole").addEventListener("click", () => map.whole());

// --- other controls ---

for (const id of ["familiarity", "diversity"]) {
  $(id).addEventListener("input", () => taste.set({ [id]: Number($(id).value) }));
}
$("max-per-artist").addEventListener("change", () => taste.set({ maxPerArtist: Number($("max-per-artist").value) || null }));
for (const [value, name] of Object.entries(SERVICES)) $("links").append(element("option", { value }, name));
$("links").addEventListener("change", () => taste.set({ links: $("links").value || null }));
$("explicit").addEventListener("change", () => taste.set({ explicit: $("explicit").checked }));
$("media").addEventListener("change", () => {
  silence();
  taste.set({ media: $("media").checked });
  if (answer) showAnswer();
});
$("again").addEventListener("click", () => {
  askNow();
  learnSongs();
});
$("clear").addEventListener("click", () => {
  const before = { likes: taste.likes, dislikes: taste.dislikes };
  taste.clear();
  $("search").focus();
  offerUndo("All songs removed from your lists", before);
});
$("share").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(taste.link());
    say("Link copied");
    $("share").textContent = "Copied";
  } catch {
    // Without permission to write to the clipboard, the link goes to the address bar.
    history.replaceState(null, "", taste.link());
    $("share").textContent = "Link is in the address bar";
  }
  setTimeout(() => ($("share").textContent = "Copy link"), 2500);
});
for (const one of document.querySelectorAll("[data-format]")) {
  one.addEventListener("click", async () => {
    const format = one.dataset.format;
    try {
      const file = URL.createObjectURL(await api.recommendAs(format, taste.query(50)));
      const name = `tunegraph.${format === "uris" ? "txt" : format}`;
      element("a", { href: file, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(file), 10_000);
    } catch (error) {
      showProblem(error);
    }
  });
}

taste.addEventListener("change", () => {
  showTaste();
  showOnMap();
  askSoon();
  learnSongs();
});

// The browser does not reload the page when only the fragment of a link differs.
addEventListener("hashchange", () => location.reload());

showTaste();
askNow();
learnSongs();
api.mapPoints().then((points) => map.setOthers(points), showProblem);
api.version().then((live) => {
  $("version").textContent = `Catalogue ${live.bundle_version}.`;
  live.licences.forEach(({ data, terms, url }, place) => {
    const shown = url.startsWith("https://") ? element("a", { href: url, rel: "noreferrer" }, terms) : terms;
    $("licences").append(place ? "; " : "", `${data}: `, shown);
  });
  $("licences").hidden = !live.licences.length;
}, showProblem);
