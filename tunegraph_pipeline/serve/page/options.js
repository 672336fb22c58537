// The options of recommendations. Here: what each may be, how it is asked for, and its controls. Not here: filters by
// genre, year and sound (`tune.js`).

import { $, element } from "./dom.js";
import { store } from "./store.js";

export const SERVICES = {
  spotify: "Spotify",
  apple: "Apple Music",
  youtube: "YouTube Music",
  deezer: "Deezer",
  tidal: "Tidal",
  musicbrainz: "MusicBrainz",
};

function share(otherwise) {
  return (value) => {
    const number = Number(value);
    return value !== "" && value !== null && number >= 0 && number <= 1 ? number : otherwise;
  };
}

const yes = (value) => value === true || value === "yes" || value === "true";

store.define("familiarity", {
  initial: 0.5,
  clean: share(0.5),
  into: (query, value) => Object.assign(query, { familiarity: value }),
});
store.define("diversity", {
  initial: 0,
  clean: share(0),
  into: (query, value) => Object.assign(query, { diversity: value }),
});
store.define("surprise", {
  initial: 0,
  clean: share(0),
  into: (query, value, { dice }) => value > 0 && Object.assign(query, { surprise: value, seed: dice }),
});
store.define("maxPerArtist", {
  initial: null,
  clean: (value) => ([1, 2, 3].includes(Number(value)) ? Number(value) : null),
  into: (query, value) => Object.assign(query, { max_per_artist: value }),
  link: "artist",
});
store.define("explicit", {
  initial: true,
  clean: (value) => value !== false && value !== "no" && value !== "false",
  into: (query, value) => Object.assign(query, { explicit: value }),
});
store.define("inOrder", {
  initial: false,
  clean: yes,
  into: (query, value) => value && query.likes.length && Object.assign(query, { mode: "continue" }),
  link: "continue",
});
// How the listener wants to see songs is no matter of a list, so it is not in links.
store.define("links", {
  initial: null,
  clean: (value) => (Object.hasOwn(SERVICES, value ?? "") ? value : null),
  into: (query, value) => Object.assign(query, { links: value }),
  link: null,
});
store.define("media", { initial: false, clean: yes, link: null });

const RANGES = ["familiarity", "diversity", "surprise"];
const SWITCHES = { explicit: "explicit", inOrder: "in-order", media: "media" };

/** Connect the controls of the options. */
export function startOptions() {
  for (const id of RANGES) $(id).addEventListener("input", () => store.set({ [id]: Number($(id).value) }));
  for (const [name, id] of Object.entries(SWITCHES)) {
    $(id).addEventListener("change", () => store.set({ [name]: $(id).checked }));
  }
  $("max-per-artist").addEventListener("change", () => store.set({ maxPerArtist: Number($("max-per-artist").value) || null }));
  for (const [value, name] of Object.entries(SERVICES)) $("links").append(element("option", { value }, name));
  $("links").addEventListener("change", () => store.set({ links: $("links").value || null }));
  $("dice").addEventListener("click", () => {
    store.dice = newDice();
    store.dispatchEvent(new Event("change"));
  });
  store.addEventListener("change", show);
  show();
}

function show() {
  for (const id of RANGES) {
    $(id).value = String(store.get(id));
    $(id).setAttribute("aria-valuetext", `${Math.round(store.get(id) * 100)} %`);
  }
  for (const [name, id] of Object.entries(SWITCHES)) $(id).checked = store.get(name);
  $("max-per-artist").value = String(store.get("maxPerArtist") ?? "");
  $("links").value = store.get("links") ?? "";
  $("dice").hidden = store.get("surprise") === 0;
  const changed = ["familiarity", "diversity", "surprise", "maxPerArtist", "explicit", "inOrder"].filter((name) =>
    store.isChanged(name),
  ).length;
  $("n-options").textContent = changed ? String(changed) : "";
}

function newDice() {
  return crypto.getRandomValues(new Uint16Array(1))[0];
}

store.dice = newDice();
