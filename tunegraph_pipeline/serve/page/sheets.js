// What is known of one song or artist, in the sheet over the page. Here: songs like it, why it is recommended, the path to
// another song, and the songs of an artist. Not here: the sheet itself (`dom.js`).

import { ServiceError, get, ofTrack, post } from "./api.js";
import { count, element, openSheet, say, textButton } from "./dom.js";
import { heartOf, learn, nameOf, neverButton, row, songActions, songOf, titleOf } from "./songs.js";
import { store } from "./store.js";

const STEP = 20; // songs at first, and more with each "More"
const MOST = 500; // the most that the service gives
const MOST_ASKED = 2000; // ids in one list of a request
const MOST_PARTS = 12; // liked songs whose part of a score is shown on its own

/** Fill a part of the sheet with what `ask` gives, or say why it cannot. */
async function fill(box, ask) {
  box.replaceChildren(element("p", { class: "hint", role: "status" }, "One moment…"));
  try {
    box.replaceChildren(...(await ask()));
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    const again = error.passing ? [textButton("", null, "Try again", () => fill(box, ask))] : [];
    box.replaceChildren(element("p", { class: "note problem", role: "alert" }, error.message), ...again);
  }
}

function songList(songs, where, { label, noteOf = () => "", ordered = false }) {
  learn(songs);
  return element(
    ordered ? "ol" : "ul",
    { class: "songs", "aria-label": label },
    ...songs.map((song) => row(song, { where, note: noteOf(song), actions: [heartOf(song), neverButton(song)] })),
  );
}

const both = (listeners) => (listeners === 1 ? "1 listener likes both" : `${count(listeners, "listener")} like both`);

// --- more like this ---

function showSimilar(song) {
  const box = element("div");
  openSheet(`Like ${titleOf(song)}`, box);
  const ask = async (k) => {
    const { items } = await get(ofTrack(song.track_id, "similar"), { k });
    if (!items.length) return [element("p", { class: "hint" }, "No songs are known to be like it.")];
    const parts = [
      songList(items, "similar", {
        label: `Songs like ${nameOf(song)}`,
        noteOf: ({ listeners }) => (listeners ? both(listeners) : "liked by similar listeners"),
      }),
      element(
        "div",
        { class: "row" },
        textButton("", "lists", "Make a list of these", () => {
          store.make(`Like ${nameOf(song)}`, { likes: items.map((one) => one.track_id).reverse() });
          say("Made a list");
        }),
        k < MOST && items.length === k ? textButton("", null, "More", () => fill(box, () => ask(k + STEP))) : null,
      ),
    ];
    return parts;
  };
  fill(box, () => ask(STEP));
}

// --- why this ---

function bar(name, note, value, largest) {
  const fillOf = element("span", { class: value < 0 ? "fill less" : "fill" });
  fillOf.style.width = `${(100 * Math.abs(value)) / largest}%`;
  return element(
    "li",
    {},
    element("span", { class: "what" }, name, note ? element("small", {}, ` ${note}`) : null),
    element("span", { class: "value" }, signed(value)),
    element("span", { class: "track", "aria-hidden": "true" }, fillOf),
  );
}

const signed = (value) => value.toFixed(3).replace("-", "−");

function showWhy(song) {
  const box = element("div");
  openSheet(`Why ${titleOf(song)}?`, box);
  fill(box, async () => {
    const { score, prior, contributions } = await post("explanations", {
      likes: store.likes.slice(-MOST_ASKED),
      track_id: song.track_id,
    });
    const shown = contributions.slice(0, contributions.length > MOST_PARTS + 1 ? MOST_PARTS : MOST_PARTS + 1);
    const rest = contributions.slice(shown.length);
    const parts = shown.map((one) => ({
      name: nameOf(one),
      note: one.listeners ? both(one.listeners) : one.artists,
      value: one.contribution,
    }));
    if (rest.length) {
      const value = rest.reduce((sum, one) => sum + one.contribution, 0);
      parts.push({ name: `${rest.length} other songs you like`, note: "", value });
    }
    parts.push({ name: "How well liked it is", note: "the same for everybody", value: prior });
    const largest = Math.max(...parts.map((part) => Math.abs(part.value)), 1e-9);
    return [
      element("p", { class: "hint" }, "What each of your songs adds to its score:"),
      element("ul", { class: "sum" }, ...parts.map(({ name, note, value }) => bar(name, note, value, largest))),
      element(
        "p",
        { class: "total" },
        element("span", {}, "Score, the sum"),
        element("strong", {}, signed(score)),
      ),
      element("p", { class: "hint" }, "Songs that are not for you and the options change the order of the list, not this sum."),
    ];
  });
}

// --- a path between two songs ---

/** A field to find a song, with some offered at first; `choose(song)` is called with the one pressed. */
function songField(label, offered, choose) {
  const list = element("ul", { class: "choices", "aria-label": label });
  const show = (songs) => {
    list.replaceChildren(...songs.map((song) => element("li", {}, textButton("choice", null, titleOf(song), () => choose(song)))));
  };
  let asked = null;
  const field = element("input", {
    type: "search",
    class: "field",
    "aria-label": label,
    placeholder: label,
    autocomplete: "off",
    async oninput() {
      asked?.abort();
      asked = new AbortController();
      const query = field.value.trim();
      if (!query) {
        show(offered);
        return;
      }
      try {
        const { items } = await get("tracks", { query, limit: 8 }, asked.signal);
        learn(items);
        show(items);
      } catch (error) {
        if (error.name !== "AbortError" && !(error instanceof ServiceError)) throw error;
      }
    },
  });
  show(offered);
  return [field, list];
}

function showPath(song) {
  const box = element("div");
  const offered = store.likes.filter((id) => id !== song.track_id).slice(-8).reverse().map(songOf);
  const body = openSheet(`A path from ${titleOf(song)}`, element("p", { class: "hint" }, "Each song is liked together with the next."), box);
  const choose = (other) => {
    fill(box, async () => {
      const { items } = await get(ofTrack(song.track_id, "path"), { to: other.track_id });
      const ids = items.map((one) => one.track_id);
      return [
        songList(items, "path", {
          label: `From ${nameOf(song)} to ${nameOf(other)}`,
          noteOf: ({ listeners }) => (listeners ? `${count(listeners, "listener")} like it and the one before` : ""),
          ordered: true,
        }),
        element(
          "div",
          { class: "row" },
          textButton("", "lists", "Make a list of these", () => {
            store.make(`${nameOf(song)} to ${nameOf(other)}`, { likes: ids });
            say("Made a list");
          }),
          textButton("", "path", "To another song", () => showPath(song)),
        ),
      ];
    });
    body.scrollTop = 0;
  };
  box.replaceChildren(...songField("To which song?", offered, choose));
  box.querySelector("input").focus();
}

// --- artists ---

/** The artists of a song, as the catalogue knows them. */
async function artistsOf(song) {
  const parts = [...new Set([song.artists, ...song.artists.split(/, | & | feat\. | ft\. /)])].slice(0, 5);
  const found = await Promise.all(parts.map((query) => get("artists", { query, limit: 5 })));
  const names = song.artists.toLowerCase();
  const those = found.flatMap(({ items }) => items).filter(({ name }) => names.includes(name.toLowerCase()));
  return [...new Map(those.map((artist) => [artist.artist_id, artist])).values()];
}

function showArtistsOf(song) {
  const box = element("div");
  openSheet(song.artists, box);
  fill(box, async () => {
    const artists = await artistsOf(song);
    if (!artists.length) return [element("p", { class: "hint" }, "The catalogue does not know this artist by name.")];
    if (artists.length === 1) return artistPart(artists[0]);
    return artists.map((artist) =>
      element("p", {}, textButton("choice", "artist", `${artist.name}, ${count(artist.songs, "song")}`, () => showArtist(artist))),
    );
  });
}

/** Open the sheet of an artist, { artist_id, name }. */
export function showArtist(artist) {
  const box = element("div");
  openSheet(artist.name, box);
  fill(box, () => artistPart(artist));
}

async function artistPart(artist) {
  const { items } = await get(`artists/${encodeURIComponent(artist.artist_id)}/songs`, { k: 50 });
  const buttons = element("div", { class: "row" });
  const is = (list) => list.some((one) => one.artist_id === artist.artist_id);
  const show = () => {
    const button = (kind, name, pressed, text, take) => {
      const made = textButton(kind, name, text, () => {
        if (pressed) store.forgetArtist(artist);
        else take();
        show();
        buttons.querySelector(`.${kind}`).focus();
      });
      made.setAttribute("aria-pressed", String(pressed));
      return made;
    };
    const [liked, never] = [is(store.artists), is(store.notArtists)];
    buttons.replaceChildren(
      button("like", "like", liked, liked ? "Liked" : "Like this artist", () => store.likeArtist(artist)),
      button("dislike", "never", never, never ? "Never recommended" : "Never again", () => store.dislikeArtist(artist)),
    );
  };
  show();
  return [
    buttons,
    songList(items, "artist", {
      label: `Songs of ${artist.name}`,
      noteOf: ({ popularity }) => (popularity === undefined ? "" : `${count(popularity, "listener")} like it`),
    }),
  ];
}

export function startSheets() {
  songActions.push(
    { icon: "similar", text: "More like this", act: showSimilar },
    { icon: "why", text: "Why this?", when: () => store.likes.length > 0, act: showWhy },
    { icon: "path", text: "Path to…", act: showPath },
    { icon: "artist", text: "Artist", when: (song) => Boolean(song.artists), act: showArtistsOf },
  );
}
