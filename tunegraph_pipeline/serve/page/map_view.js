// The section of the map. Here: its points, legend, tip, card and buttons, and asking for the names of songs. Not here:
// the view and the drawing (`map.js`, `map_points.js`).

import { Job, ServiceError, get } from "./api.js";
import { $, closeSheet, count, element, icon, iconButton, say } from "./dom.js";
import { SongMap } from "./map.js";
import { HUES } from "./map_points.js";
import { recommendations, showProblem } from "./recommendations.js";
import { dislike, forget, learn, like, nameOf, songActions, songOf, titleOf } from "./songs.js";
import { store } from "./store.js";

const MOST_POINTS = 100_000;
const MOST_ON_A_PHONE = 30_000;
const POSITIONS = 65_535; // a coordinate of the answer is a share of it
const POINTING = 80; // milliseconds on a song before its name is asked for
const HINT = 1800; // milliseconds that a hint is shown

let map = null;
let version = ""; // of the bundle that the points are of
let genres = []; // names, by hue
const asked = new Set(); // places of songs whose names were asked for
let announced = null; // the song that the tip names
let chosen = null; // the song of the card
let pointing = 0;
let hinting = 0;
let scrolled = 0; // where the page was before the map took the whole screen

export function startMap() {
  map = new SongMap($("map"), {
    point: showTip,
    select: showCard,
    choose: (song) => song.track_id !== undefined && toggle(song),
    rest: askNames,
    oneFinger: () => hint("Two fingers move the map"),
    wheel: () => hint("Click the map, or hold Ctrl, to zoom with the wheel"),
  });
  store.addEventListener("change", showSongs);
  recommendations.addEventListener("answer", showSongs);
  document.addEventListener("songs-learned", showSongs);
  document.addEventListener("song-pointed", (event) => map.mark(event.detail));
  $("closer").addEventListener("click", () => map.zoom(1.6));
  $("farther").addEventListener("click", () => map.zoom(1 / 1.6));
  $("whole").addEventListener("click", () => map.whole());
  $("mine").addEventListener("click", () => map.fit());
  $("large").addEventListener("click", () => enlarge(!map.alone));
  $("chart").addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    if (chosen) closeCard();
    else if (map.alone) enlarge(false);
  });
  songActions.push({ icon: "map", text: "Show on the map", act: showOnMap, when: (song) => song.x !== undefined });
  showSongs();
  // On a phone it is far below the recommendations, and may never be seen.
  const loading = new Job(load, showProblem);
  const near = new IntersectionObserver(
    (seen) => {
      if (!seen.some((one) => one.isIntersecting)) return;
      near.disconnect();
      loading.run();
    },
    { rootMargin: "300px" },
  );
  near.observe($("chart"));
}

function showSongs() {
  const placed = (songs) => songs.filter((song) => song.x !== undefined);
  const [likes, items] = [placed(store.likes.map(songOf)), placed(recommendations.items)];
  map.setSongs(likes, items);
  $("mine").disabled = !likes.length && !items.length;
  if (chosen) showCard(chosen);
}

/** Go to the map and to a song on it, with its card. */
function showOnMap(song) {
  closeSheet();
  $("map-section").scrollIntoView({ block: "nearest" });
  $("map").focus({ preventScroll: true });
  map.goTo(song);
  map.select(song);
}

// --- the points and their genres ---

async function load() {
  const small = matchMedia("(max-width: 720px)").matches || navigator.connection?.saveData;
  const answer = await get("map/columns", { limit: small ? MOST_ON_A_PHONE : MOST_POINTS });
  if (version !== answer.bundle_version) asked.clear();
  version = answer.bundle_version;
  const songs = answer.genres.map(() => 0);
  for (const genre of answer.genre) if (genre >= 0) songs[genre] += 1;
  const largest = [...songs.keys()].sort((one, other) => songs[other] - songs[one]).slice(0, HUES);
  genres = largest.map((genre) => answer.genres[genre]);
  const hueOf = songs.map((_, genre) => (largest.includes(genre) ? largest.indexOf(genre) : HUES));
  const hues = Uint8Array.from(answer.genre, (genre) => (genre < 0 ? HUES : hueOf[genre]));
  const shares = (values) => Float32Array.from(values, (value) => value / POSITIONS);
  if (chosen?.place !== undefined) map.select(null); // it is of the points before
  map.setPoints(shares(answer.x), shares(answer.y), hues, answer.regions);
  showLegend(hues.includes(HUES));
  $("map-count").textContent = count(hues.length, "song");
}

function showLegend(hasOthers) {
  const shown = genres.map((name, hue) => [name, hue]);
  if (hasOthers && shown.length) shown.push(["other", HUES]);
  $("map-genres").hidden = !shown.length;
  $("map-genres").replaceChildren(
    ...shown.map(([name, hue]) => {
      const made = element("button", { type: "button", class: "genre", "aria-pressed": "false" }, dot(hue), name);
      made.addEventListener("click", () => {
        const on = made.getAttribute("aria-pressed") !== "true";
        for (const one of $("map-genres").querySelectorAll("button")) {
          one.setAttribute("aria-pressed", String(on && one === made));
        }
        map.setOnly(on ? hue : -1);
        say(on ? `${name} stands out` : "All genres are shown");
      });
      return element("li", {}, made);
    }),
  );
}

function dot(hue) {
  return element("span", { class: `dot hue-${hue + 1}`, "aria-hidden": "true" });
}

/** Ask for names of songs of which only the position is known. */
async function askNames(songs) {
  const places = songs.map((song) => song.place).filter((place) => !asked.has(place));
  if (!places.length) return;
  for (const place of places) asked.add(place);
  try {
    const answer = await get("map", { at: places.join(",") });
    if (answer.bundle_version !== version) {
      await load(); // another bundle is served by now, of which other songs have these places
      return;
    }
    map.learn(answer.points.map(({ track_id, name, artists }, order) => [places[order], { track_id, name, artists }]));
    if (chosen && places.includes(chosen.place)) showCard(chosen);
  } catch (error) {
    for (const place of places) asked.delete(place);
    if (!(error instanceof ServiceError)) throw error;
    showProblem(error);
  }
}

// --- a song that is pointed at ---

function showTip(song) {
  const tip = $("tip");
  clearTimeout(pointing);
  if (song && song.track_id === undefined) pointing = setTimeout(() => askNames([song]), POINTING);
  tip.hidden = song?.track_id === undefined;
  const news = song !== announced;
  announced = tip.hidden ? null : song;
  if (news) {
    for (const one of document.querySelectorAll(".song")) {
      one.classList.toggle("pointed", !tip.hidden && one.dataset.track === song.track_id);
    }
  }
  if (tip.hidden) return;
  if (news) {
    const genre = genres[song.hue] ?? song.genres?.[0];
    tip.replaceChildren(titleOf(song), genre ? element("span", { class: "of-genre" }, dot(song.hue ?? genres.indexOf(genre)), genre) : "");
    say(titleOf(song));
  }
  const [left, top] = map.placeOf(song);
  const box = $("map").getBoundingClientRect();
  // Above the song, or below it if there is no room, and within the sides.
  tip.style.left = `${Math.min(Math.max(left - tip.offsetWidth / 2, 4), box.width - tip.offsetWidth - 4)}px`;
  tip.style.top = `${top - tip.offsetHeight > 20 ? top - tip.offsetHeight - 16 : top + 18}px`;
}

// --- a song that was tapped ---

/** The card names the song; its buttons like it, or not. */
function showCard(song) {
  const card = $("map-card");
  const opened = song !== chosen;
  const held = card.contains(document.activeElement) ? document.activeElement.className : null;
  chosen = song;
  card.hidden = !song;
  if (!song) return;
  // Where it does not lie over the song.
  if (opened) card.classList.toggle("above", map.placeOf(song)[1] > $("map").clientHeight / 2);
  const close = iconButton("close", "close", "Close", closeCard);
  if (song.track_id === undefined) {
    card.replaceChildren(element("p", { class: "hint" }, "…"), close);
    askNames([song]);
    return;
  }
  const { track_id } = song;
  const [isLiked, isNever] = [store.likes.includes(track_id), store.dislikes.includes(track_id)];
  const about = [song.artists, genres[song.hue] ?? song.genres?.[0]].filter(Boolean).join(" · ");
  const similar = songActions.find((action) => action.icon === "similar");
  card.replaceChildren(
    element("div", { class: "title" }, element("p", { class: "name" }, nameOf(song)), element("p", { class: "artists" }, about)),
    close,
    element(
      "div",
      { class: "acts" },
      act("like", "like", isLiked ? "Remove" : "Like", song, () => toggle(song)),
      act("dislike", isNever ? "allow" : "never", isNever ? "Allow again" : "Not for me", song, () =>
        isNever ? forget(song) : dislike(song),
      ),
      similar && act("more", similar.icon, similar.text, song, () => similar.act(full(song))),
    ),
  );
  card.querySelector(".like").setAttribute("aria-pressed", String(isLiked));
  if (held) (card.querySelector(`.${CSS.escape(held)}`) ?? card.querySelector(".acts button")).focus();
  if (opened) say(titleOf(song));
}

function closeCard() {
  map.select(null);
  $("map").focus({ preventScroll: true });
}

/** A button with its words, which are read aloud with the song they are about. */
function act(kind, sign, words, song, work) {
  const label = `${words}: ${titleOf(song)}`;
  return element("button", { type: "button", class: kind, "aria-label": label, onclick: work }, icon(sign), words);
}

function toggle(song) {
  if (store.likes.includes(song.track_id)) forget(song);
  else like(full(song));
}

/** All that is known of a song, of which the map may know the name alone. */
function full(song) {
  const { place, hue, ...known } = song;
  learn([known]);
  return songOf(song.track_id);
}

// --- hints and the whole screen ---

function hint(text) {
  $("map-hint").textContent = text;
  $("map-hint").hidden = false;
  clearTimeout(hinting);
  hinting = setTimeout(() => ($("map-hint").hidden = true), HINT);
}

/** The map on the whole screen, where one finger moves it; or in its place again. */
function enlarge(yes) {
  if (yes) scrolled = scrollY;
  map.alone = yes;
  $("chart").classList.toggle("large", yes);
  document.documentElement.classList.toggle("behind", yes);
  // What lies behind cannot be reached by keys either.
  for (let part = $("chart"); part !== document.body; part = part.parentElement) {
    for (const other of part.parentElement.children) {
      if (other !== part && !["said", "undo"].includes(other.id) && !other.querySelector("#said, #undo")) other.inert = yes;
    }
  }
  const label = yes ? "Back to the page" : "Map on the whole screen";
  $("large").replaceChildren(icon(yes ? "close" : "large"));
  $("large").setAttribute("aria-label", label);
  $("large").title = label;
  if (!yes) scrollTo(scrollX, scrolled); // the page was shorter meanwhile
  $("map").focus({ preventScroll: true });
}
