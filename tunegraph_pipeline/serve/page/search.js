// The search field. Here: finding songs and choosing them by mouse, touch and keyboard. Not here: the list
// of likes (`taste.js`).

import { Job, get } from "./api.js";
import { $, count, element, say } from "./dom.js";
import { forget, learn, like, nameOf } from "./songs.js";
import { store } from "./store.js";

const PAUSE = 120; // milliseconds without further input before a request is sent
const MOST_SONGS = 8;

let found = []; // songs, in the order of their options
let foundFor = ""; // the text searched for
let active = -1;
let searching = null;
let typing = 0;

const job = new Job(searchNow, (error) => {
  if (!error) return;
  $("search-note").hidden = false;
  $("search-note").textContent = error.message;
});

function optionOf(song, place) {
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
      element("span", { class: "name" }, nameOf(song)),
      element("span", { class: "artists" }, song.artists ? ` ${song.artists}` : ""),
    ),
  );
}

function showFound(songs) {
  found = songs;
  active = -1;
  $("found").replaceChildren(...songs.map(optionOf));
  open(songs.length > 0);
  markFound();
}

function markFound() {
  [...$("found").children].forEach((option, place) => {
    const ticked = store.likes.includes(found[place].track_id);
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
  if (store.likes.includes(song.track_id)) forget(song);
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
  const { items } = await get("tracks", { query: text, limit: MOST_SONGS }, searching.signal);
  learn(items);
  foundFor = text;
  showFound(items);
  $("search-note").hidden = items.length > 0;
  $("search-note").textContent = "No songs found.";
  say(items.length ? `${count(items.length, "song")} found` : "No songs found");
}

function onKey(event) {
  if (event.key === "Escape") {
    open(false);
    return;
  }
  if (event.key === "Enter" && $("search").value.trim() !== foundFor) {
    // The results shown are for an earlier text, so do not choose from them.
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
    typing = setTimeout(() => job.run(), PAUSE);
  });
  $("search").addEventListener("keydown", onKey);
  $("search").addEventListener("focus", () => open(found.length > 0));
  $("search").addEventListener("blur", () => open(false));
  store.addEventListener("change", markFound);
}
