// Saving songs as a playlist. Here: the sheet for files and the clipboard, and for a playlist in ListenBrainz or Spotify by
// the listener's own token. Not here: the formats (`playlist_files.js`).
//
// A token goes from its field to the service that it is of, and is then forgotten.

import { $, count, element, openSheet, saveFile, textButton } from "./dom.js";
import { csv, jspf, m3u, plain, recordingId, spotifyId, uris } from "./playlist_files.js";
import { recommendations } from "./recommendations.js";
import { songOf } from "./songs.js";
import { store } from "./store.js";

const LISTENBRAINZ = "https://api.listenbrainz.org/1";
const SPOTIFY = "https://api.spotify.com/v1";
const AT_ONCE = 100; // songs that Spotify takes in one request

async function call(address, token, body) {
  let response;
  try {
    response = await fetch(address, {
      method: "POST",
      headers: { Authorization: token, "Content-Type": "application/json" },
      body: JSON.stringify(body),
      credentials: "omit",
      referrerPolicy: "no-referrer",
    });
  } catch {
    throw new Error(`${new URL(address).hostname} is not responding.`);
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const why = answer.error?.message ?? answer.error ?? `status ${response.status}`;
  if (response.status === 401) throw new Error(`The token is not accepted: ${why}`);
  throw new Error(`${new URL(address).hostname} reports: ${why}`);
}

/** The services: which songs they know, and saving a playlist; the address of its page. */
const PLAYLISTS = {
  listenbrainz: {
    name: "ListenBrainz",
    site: "api.listenbrainz.org",
    where: ["https://listenbrainz.org/settings/", "listenbrainz.org/settings"],
    idOf: recordingId,
    async save(name, songs, token) {
      const { playlist } = jspf(name, songs);
      playlist.extension = { "https://musicbrainz.org/doc/jspf#playlist": { public: false } };
      const answer = await call(`${LISTENBRAINZ}/playlist/create`, `Token ${token}`, { playlist });
      return `https://listenbrainz.org/playlist/${answer.playlist_mbid}`;
    },
  },
  spotify: {
    name: "Spotify",
    site: "api.spotify.com",
    where: [
      "https://developer.spotify.com/documentation/web-api/concepts/access-token",
      "an access token with the scope playlist-modify-private",
    ],
    idOf: spotifyId,
    async save(name, songs, token) {
      const made = await call(`${SPOTIFY}/me/playlists`, `Bearer ${token}`, { name, public: false });
      const all = songs.map((song) => `spotify:track:${spotifyId(song)}`);
      const items = `${SPOTIFY}/playlists/${encodeURIComponent(made.id)}/items`;
      for (let start = 0; start < all.length; start += AT_ONCE) {
        await call(items, `Bearer ${token}`, { uris: all.slice(start, start + AT_ONCE) });
      }
      return `https://open.spotify.com/playlist/${made.id}`;
    },
  },
};

const fileName = (name, ending) => `${name.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").toLowerCase() || "songs"}.${ending}`;

const FILES = [
  ["jspf", "JSPF", "application/json", (name, songs) => JSON.stringify(jspf(name, songs), null, 1)],
  ["m3u8", "M3U", "audio/x-mpegurl", m3u],
  ["csv", "CSV", "text/csv", (_, songs) => csv(songs)],
  ["txt", "Spotify URIs", "text/plain", (_, songs) => uris(songs)],
];

function openSave() {
  const sources = [
    ["recommendations", "Recommendations", () => recommendations.items],
    ["likes", store.name, () => store.likes.map(songOf)],
  ];
  const choice = sources.map(([value, label, songs], place) =>
    element(
      "label",
      { class: "switch" },
      element("input", { type: "radio", name: "source", value, checked: place === 0, disabled: !songs().length }),
      element("span", {}, `${label} `, element("small", {}, count(songs().length, "song"))),
    ),
  );
  const form = element("fieldset", { class: "plain" }, element("legend", {}, "Which songs"), ...choice);
  const songs = () => sources.find(([value]) => value === form.querySelector(":checked").value)[2]();
  const name = element("input", { type: "text", class: "field", maxlength: "80", value: `${store.name}, by TuneGraph` });
  const title = () => name.value.trim() || "TuneGraph";
  const note = element("p", { class: "hint", role: "status" });

  const files = FILES.map(([ending, text, type, write]) => {
    const made = textButton("", "save", text, () => {
      const content = write(title(), songs());
      if (content) saveFile(fileName(title(), ending), content, `${type};charset=utf-8`);
      note.textContent = content ? `Saved ${count(songs().length, "song")}.` : "None of these songs is in Spotify.";
    });
    made.dataset.format = ending;
    return made;
  });
  const copy = textButton("", "copy", "Copy as text", async () => {
    try {
      await navigator.clipboard.writeText(plain(songs()));
      note.textContent = `Copied ${count(songs().length, "song")}.`;
    } catch {
      note.textContent = "The browser does not allow copying here.";
    }
  });
  openSheet(
    "Save as a playlist",
    form,
    element("label", { class: "stack" }, "Name", name),
    element("div", { class: "row" }, ...files, copy),
    note,
    ...Object.values(PLAYLISTS).map((service) => serviceForm(service, songs, title)),
  );
}

function serviceForm(service, songs, title) {
  const token = element("input", {
    type: "password",
    class: "field",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    "aria-label": `Your token of ${service.name}`,
    placeholder: "Your token",
  });
  const note = element("p", { class: "hint", role: "status" });
  const save = async () => {
    const given = token.value.trim();
    token.value = "";
    const known = songs().filter((song) => service.idOf(song));
    if (!known.length) {
      note.textContent = `None of these songs is known in ${service.name}.`;
      return;
    }
    note.textContent = "One moment…";
    try {
      const page = await service.save(title(), known, given);
      const left = songs().length - known.length;
      const link = element("a", { href: page, target: "_blank", rel: "noopener noreferrer" }, "Open it");
      note.replaceChildren(
        `Saved ${count(known.length, "song")} in ${service.name}`,
        left ? `; ${left} not known there. ` : ". ",
        link,
      );
    } catch (error) {
      note.textContent = error.message;
    }
  };
  const form = element(
    "form",
    {
      class: "row",
      onsubmit: (event) => {
        event.preventDefault();
        if (store.get("media")) save();
        else note.replaceChildren(...allowing(service, save));
      },
    },
    token,
    element("button", {}, "Save"),
  );
  return element(
    "details",
    { class: "service" },
    element("summary", {}, `Save to ${service.name}`),
    element(
      "p",
      { class: "hint" },
      "With your own token, from ",
      element("a", { href: service.where[0], target: "_blank", rel: "noopener noreferrer" }, service.where[1]),
      `. It is sent to ${service.site} alone, and not kept.`,
    ),
    form,
    note,
  );
}

/** Ask in place, so that the token in its field is not lost. */
function allowing(service, save) {
  return [
    `The page calls no other site until you say so. ${service.site} will learn your address. `,
    textButton("quiet", null, "Switch on and save", () => {
      store.set({ media: true });
      save();
    }),
  ];
}

export function startSave() {
  $("save").addEventListener("click", openSave);
}
