// The search field. Here: finding songs and choosing them by mouse, touch and keyboard. Not here: the list
// of likes (`taste.js`).

import { Job, get } from "./api.js";
import { $, count, element, say } from "./dom.js";
import { forget, learn, like, nameOf } from "./songs.js";
import { store } from "./store.js";

const PAUSE = 120; // milliseconds without further input before a request is sent
const MOST_SONGS = 8;
const MOST_ARTISTS = 2;

let found = []; // artists and songs, in the order of their options
let foundFor = ""; // the text searched for
let active = -1;
let searching = null;
let typing = 0;

const job = new Job(searchNow, (error) => {
  if (!error) return;
  $("search-note").hidden = false;
  $("search-note").textContent = error.message;
});

const isArtist = (one) => one.artist_id !== undefined;

function optionOf(one, place) {
  return element(
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
      element("span", { class: "name" }, isArtist(one) ? one.name : nameOf(one)),
      element("span", { class: "artists" }, isArtist(one) ? `artist, ${count(one.songs, "song")}` : one.artists),
    ),
  );
}

function showFound(all) {
  found = all;
  active = -1;
  $("found").replaceChildren(...all.map(optionOf));
  markStale();
  open(all.length > 0);
  markFound();
}

/** What was found for an earlier text is dimmed, and Enter does not choose from it. */
function markStale() {
  $("found").setAttribute("aria-busy", String(isStale()));
}

const isStale = () => $("search").value.trim() !== foundFor;

function isTicked(one) {
  if (!isArtist(one)) return store.likes.includes(one.track_id);
  return store.artists.some((artist) => artist.artist_id === one.artist_id);
}

function markFound() {
  [...$("found").children].forEach((option, place) => {
    const ticked = isTicked(found[place]);
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
  const one = found[place];
  if (isArtist(one)) {
    if (isTicked(one)) store.forgetArtist(one);
    else store.likeArtist(one);
  } else if (isTicked(one)) forget(one);
  else like(one);
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
  const [songs, artists] = await Promise.all([
    get("tracks", { query: text, limit: MOST_SONGS }, searching.signal),
    get("artists", { query: text, limit: MOST_ARTISTS }, searching.signal),
  ]);
  learn(songs.items);
  foundFor = text;
  // Songs first: who types the name of an artist finds the artist among the first as well.
  showFound([...songs.items.slice(0, 1), ...artists.items, ...songs.items.slice(1)]);
  $("search-note").hidden = found.length > 0;
  $("search-note").textContent = "Nothing found.";
  say(found.length ? `${count(found.length, "result")}` : "Nothing found");
}

function onKey(event) {
  if (event.key === "Escape") {
    open(false);
    return;
  }
  if (event.key === "Enter" && isStale()) {
    clearTimeout(typing);
    job.run();
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
}

export function startSearch() {
  $("search").addEventListener("input", () => {
    clearTimeout(typing);
    job.stop();
    markStale();
    typing = setTimeout(() => job.run(), PAUSE);
  });
  $("search").addEventListener("keydown", onKey);
  $("search").addEventListener("focus", () => open(found.length > 0));
  $("search").addEventListener("blur", () => open(false));
  store.addEventListener("change", markFound);
}
