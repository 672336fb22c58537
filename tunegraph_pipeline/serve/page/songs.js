// Songs as they are shown everywhere. Here: the songs seen so far, the row of a song, and what can be done with one.
// Not here: which songs are listed.

import { cover } from "./cover.js";
import { tracks } from "./api.js";
import { element, icon, iconButton, offerUndo, say, textButton } from "./dom.js";
import { SERVICES } from "./options.js";
import { store } from "./store.js";

const known = new Map(); // by id

/** Remember songs of an answer, so that lists can show them. */
export function learn(songs) {
  for (const song of songs) known.set(song.track_id, { ...known.get(song.track_id), ...song });
}

/** A song by its id, with nothing but the id if it has not been seen. */
export function songOf(id) {
  return known.get(id) ?? { track_id: id, name: "", artists: "" };
}

const isKnown = (id) => known.get(id)?.image_url !== undefined;

/** Look up songs of which no more than the name is known; false if there was nothing to look up. */
export async function lookUp(ids) {
  const missing = ids.filter((id) => !isKnown(id));
  if (!missing.length) return false;
  learn(await tracks(missing));
  // Those that the catalogue does not know are not asked for again.
  learn(missing.filter((id) => !isKnown(id)).map((id) => ({ ...songOf(id), image_url: "" })));
  return true;
}

export const nameOf = (song) => song.name || song.track_id;
export const titleOf = (song) => (song.artists ? `${nameOf(song)} by ${song.artists}` : nameOf(song));

// --- liking and not ---

export function like(song) {
  learn([song]);
  store.like(song.track_id);
  say(`${titleOf(song)}: added to ${store.name}`);
}

export function dislike(song) {
  learn([song]);
  const before = store.snapshot();
  store.dislike(song.track_id);
  offerUndo(`Not for me: ${titleOf(song)}`, () => store.restore(before));
}

export function forget(song) {
  const before = store.snapshot();
  store.forget(song.track_id);
  offerUndo(`Removed: ${titleOf(song)}`, () => store.restore(before));
}

// --- the row of a song ---

/**
 * What can be done with a song, offered below its title: { icon, text, act(song), when(song) }. Modules add theirs.
 */
export const songActions = [];

/** Makes the button that plays a song, null if it cannot be played; set by the player. */
export const playing = { button: () => null };

let opened = { where: "", id: "" }; // the row whose details are shown

function opinionButton(kind, name, label, song, ids, take) {
  const made = iconButton(kind, name, label, () => (ids().includes(song.track_id) ? forget(song) : take(song)));
  made.setAttribute("aria-pressed", String(ids().includes(song.track_id)));
  made.dataset.opinionOf = song.track_id;
  return made;
}

/** A button that is pressed while the song is liked. */
export function heartOf(song) {
  return opinionButton("like", "like", `I like ${titleOf(song)}`, song, () => store.likes, like);
}

/** A button that is pressed while the song is not for the listener. */
export function neverButton(song) {
  return opinionButton("dislike", "never", `${titleOf(song)} is not for me`, song, () => store.dislikes, dislike);
}

store.addEventListener("change", () => {
  const [likes, dislikes] = [new Set(store.likes), new Set(store.dislikes)];
  for (const one of document.querySelectorAll("[data-opinion-of]")) {
    const among = one.classList.contains("like") ? likes : dislikes;
    one.setAttribute("aria-pressed", String(among.has(one.dataset.opinionOf)));
  }
});

function reasonOf(reasons) {
  const line = element("p", { class: "reason" }, element("span", { class: "because" }, "because "), "you like ");
  reasons.forEach((reason, place) => {
    const listeners = `${reason.listeners.toLocaleString("en")} ${reason.listeners === 1 ? "likes" : "like"}`;
    line.append(
      place ? " and " : "",
      element("strong", {}, reason.name || reason.track_id),
      reason.listeners ? ` (${listeners} both)` : "",
    );
  });
  line.title = line.textContent;
  return line;
}

/**
 * A row of a list. `where` names the list; `rank` is the number of the song on the map; `reasons` are those of an
 * answer; `note` is any line of text; `actions` are buttons.
 */
export function row(song, { where = "", rank = null, reasons = [], note = "", actions = [] } = {}) {
  const isOpen = opened.where === where && opened.id === song.track_id;
  const about = [song.artists, song.year].filter(Boolean).join(" · ");
  const name = element(
    "button",
    { type: "button", class: "name", "aria-expanded": String(isOpen), onclick: () => toggle() },
    element("span", {}, nameOf(song)),
    song.explicit ? element("span", { class: "mark", title: "explicit" }, "E") : null,
  );
  const picture = element("div", { class: "picture" }, cover(song, store.get("media")));
  const play = playing.button(song, where);
  if (play) picture.append(play);
  if (rank !== null) picture.append(element("span", { class: "rank", "aria-hidden": "true" }, String(rank)));
  const line = reasons.length ? reasonOf(reasons) : note ? element("p", { class: "reason", title: note }, note) : null;
  const made = element(
    "li",
    { class: "song", "data-track": song.track_id },
    picture,
    element("div", { class: "title" }, name, about ? element("p", { class: "artists", title: about }, about) : null),
    line,
    element("div", { class: "actions" }, ...actions),
  );
  if (isOpen) made.append(details(song));
  made.addEventListener("pointerenter", () => point(song));
  made.addEventListener("pointerleave", () => point(null));

  function toggle() {
    const drawer = made.querySelector(".details");
    for (const other of document.querySelectorAll(".song .details")) {
      other.parentElement.querySelector(".name").setAttribute("aria-expanded", "false");
      other.remove();
    }
    opened = drawer ? { where: "", id: "" } : { where, id: song.track_id };
    name.setAttribute("aria-expanded", String(!drawer));
    if (!drawer) made.append(details(song));
  }
  return made;
}

function point(song) {
  document.dispatchEvent(new CustomEvent("song-pointed", { detail: song }));
}

/** The pages about a song as [service, address], the one to link to first. */
function pagesOf(song) {
  const pages = Object.entries(song.links ?? {}).filter(([, address]) => address.startsWith("https://"));
  if (song.link?.startsWith("https://") && !pages.some(([, address]) => address === song.link)) {
    pages.unshift(["", song.link]);
  }
  return pages.sort(([, one], [, other]) => Number(other === song.link) - Number(one === song.link));
}

function serviceName(service, address) {
  return SERVICES[service] ?? new URL(address).hostname.replace(/^(www|open|music)\./, "");
}

function details(song) {
  const pages = pagesOf(song).map(([service, address]) => {
    const name = serviceName(service, address);
    return element(
      "a",
      {
        class: "page",
        href: address,
        target: "_blank",
        rel: "noopener noreferrer",
        "aria-label": `${titleOf(song)}, on ${name}`,
        onclick: () => store.hear(song.track_id),
      },
      icon("out"),
      name,
    );
  });
  const actions = songActions
    .filter((action) => !action.when || action.when(song))
    .map((action) => textButton("quiet", action.icon, action.text, () => action.act(song)));
  const genres = song.genres?.length ? element("p", { class: "hint" }, song.genres.join(" · ")) : null;
  return element(
    "div",
    { class: "details" },
    genres,
    pages.length ? element("div", { class: "pages" }, ...pages) : element("p", { class: "hint" }, "No service has a page about it."),
    element("div", { class: "more" }, ...actions),
  );
}

/** Replace the rows of a list and keep the keyboard focus: on the same song, or that which came to its place. */
export function replaceRows(list, rows) {
  const held = list.contains(document.activeElement) ? document.activeElement : null;
  const at = held?.closest(".song")?.dataset.track;
  const kind = held?.className;
  const order = [...list.children].findIndex((one) => one.dataset.track === at);
  list.replaceChildren(...rows);
  if (!held) return;
  const again = rows.find((one) => one.dataset.track === at) ?? rows[Math.min(Math.max(order, 0), rows.length - 1)];
  const buttons = [...(again?.querySelectorAll("button") ?? [])];
  const alike = buttons.filter((one) => one.className === kind);
  const target = alike.find((one) => one.textContent === held.textContent) ?? alike[0] ?? buttons[0];
  if (target) target.focus();
  else if (list.tabIndex === -1) list.focus();
}
