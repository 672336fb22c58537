// The state of the page: the list that is open, the other lists, options, and songs heard. Here: changing it, keeping
// it between visits and together with other tabs, and links. Not here: the form of what is kept (`lists.js`) or showing it.

import {
  FIRST_LIST,
  LIKED,
  NOT_FOR_ME,
  cleaned,
  cleanName,
  emptyList,
  equal,
  isThere,
  merged,
  nothingKept,
  ofOpinion,
  pruned,
} from "./lists.js";

const KEPT = "tunegraph"; // lists and options, in localStorage
const HEARD = "tunegraph-heard"; // when songs were heard, in localStorage
const OPEN = "tunegraph-list"; // the list that this tab shows, in sessionStorage
const MOST_ASKED = 2000; // ids in one list of a request
const MOST_ARTISTS = 100;
const MOST_HEARD = 5000;

function textOf(storage, name) {
  try {
    return storage().getItem(name);
  } catch {
    return null; // the browser refuses storage
  }
}

/** The value of a text of JSON that is kept, null if there is none. */
export const read = (storage, name) => parsed(textOf(storage, name)) ?? null;

/** Keep a text; false if the browser refuses, without which the page still works, and a link has the list. */
export function write(storage, name, text) {
  try {
    storage().setItem(name, text);
    return true;
  } catch {
    return false;
  }
}

// Functions, since a browser that refuses storage throws where it is named.
export const local = () => localStorage;
export const session = () => sessionStorage;

/**
 * One list is open: one of those kept, or a `shared` one that came with a link and is kept nowhere. Every change
 * dispatches `change`.
 */
class Store extends EventTarget {
  #kept = nothingKept();
  #open = FIRST_LIST;
  #shared = null; // { list, options } of a link, and once it is kept, keptAs
  #heard = new Map();
  #options = new Map(); // how each option is checked, sent and linked
  #views = null; // what the getters gave since the last change
  #clock = 0;

  constructor() {
    super();
    this.#kept = pruned(cleaned(read(local, KEPT)), Date.now());
    this.#readHeard(read(local, HEARD));
    const open = read(session, OPEN);
    if (this.#isThere(open)) this.#open = open;
    this.#clock = this.#latest();
    this.openLink(location.hash);
    addEventListener("storage", (event) => this.#fromOtherTab(event));
  }

  // --- the list that is open ---

  get #list() {
    return this.#shared?.list ?? this.#kept.lists[this.#open];
  }

  #view(name, make) {
    this.#views ??= new Map();
    if (!this.#views.has(name)) this.#views.set(name, make());
    return this.#views.get(name);
  }

  /** Ids of the liked songs of the open list, the newest last. */
  get likes() {
    return this.#view("likes", () => ofOpinion(this.#list.songs, LIKED));
  }

  get dislikes() {
    return this.#view("dislikes", () => ofOpinion(this.#list.songs, NOT_FOR_ME));
  }

  /** Liked artists as { artist_id, name }, the newest last. */
  get artists() {
    return this.#view("artists", () => this.#artistsOf(LIKED));
  }

  /** Artists that are never recommended. */
  get notArtists() {
    return this.#view("notArtists", () => this.#artistsOf(NOT_FOR_ME));
  }

  #artistsOf(opinion) {
    const { artists } = this.#list;
    return ofOpinion(artists, opinion).map((id) => ({ artist_id: id, name: artists[id][3] }));
  }

  /** Whether the open list is the one of a link, which is not kept. */
  get isShared() {
    return this.#shared !== null;
  }

  get isEmpty() {
    return ![...this.likes, ...this.dislikes, ...this.artists, ...this.notArtists].length;
  }

  get name() {
    return this.#list.name;
  }

  /** Ids, oldest first, so that the order of several is kept. */
  like(...ids) {
    this.#setSongs(ids, LIKED);
  }

  dislike(...ids) {
    this.#setSongs(ids, NOT_FOR_ME);
  }

  /** Neither liked nor disliked any more. */
  forget(...ids) {
    this.#setSongs(ids, 0);
  }

  likeArtist(artist) {
    this.#setArtist(artist, LIKED);
  }

  dislikeArtist(artist) {
    this.#setArtist(artist, NOT_FOR_ME);
  }

  forgetArtist(artist) {
    this.#setArtist(artist, 0);
  }

  clear() {
    this.#edit(() => this.#removeAll());
  }

  /** Everything of the open list replaced by these likes and dislikes, oldest first. */
  replace({ likes = [], dislikes = [] }) {
    this.#edit(() => {
      this.#removeAll();
      for (const id of dislikes) this.#put(this.#list.songs, id, NOT_FOR_ME);
      for (const id of likes) this.#put(this.#list.songs, id, LIKED);
    });
  }

  /** The open list as it is, for `restore`. */
  snapshot() {
    const { songs, artists } = this.#list;
    return { of: this.#shared ?? this.#open, songs: { ...songs }, artists: { ...artists } };
  }

  /** What a list was at a snapshot, songs and artists with their old order; no other list is touched. */
  restore(snapshot) {
    const { of } = snapshot;
    this.#edit(() => {
      const list = of === this.#shared ? of.list : this.#kept.lists[of.keptAs ?? of];
      if (!list) return; // that of a link that was left
      for (const kind of ["songs", "artists"]) {
        for (const id of new Set([...Object.keys(list[kind]), ...Object.keys(snapshot[kind])])) {
          const [now, was] = [list[kind][id], snapshot[kind][id]];
          if (was && now && equal(was, now)) continue;
          const [opinion, added, , ...name] = was ?? [0, now[1], 0, ...now.slice(3)];
          list[kind][id] = [opinion, added, this.#tick(), ...name];
        }
      }
    });
  }

  #setSongs(ids, opinion) {
    this.#edit(() => {
      for (const id of ids) this.#put(this.#list.songs, id, opinion);
    });
  }

  #setArtist({ artist_id: id, name }, opinion) {
    this.#edit(() => this.#put(this.#list.artists, id, opinion, name));
  }

  #put(all, id, opinion, ...name) {
    const now = this.#tick();
    const [before, added] = all[id] ?? [];
    all[id] = [opinion, before === opinion ? added : now, now, ...(name.length ? name : (all[id]?.slice(3) ?? []))];
  }

  #removeAll() {
    for (const kind of ["songs", "artists"]) {
      for (const [id, [opinion]] of Object.entries(this.#list[kind])) {
        if (opinion !== 0) this.#put(this.#list[kind], id, 0);
      }
    }
  }

  // --- lists ---

  /** The kept lists as { id, name, likes, dislikes, artists, notArtists, isOpen }, the oldest first. */
  get lists() {
    return this.#view("lists", () =>
      Object.entries(this.#kept.lists)
        .filter(([id]) => this.#isThere(id))
        .sort(([, one], [, other]) => one.made - other.made)
        .map(([id, list]) => ({
          id,
          name: list.name,
          likes: ofOpinion(list.songs, LIKED),
          dislikes: ofOpinion(list.songs, NOT_FOR_ME),
          artists: ofOpinion(list.artists, LIKED),
          notArtists: ofOpinion(list.artists, NOT_FOR_ME),
          isOpen: !this.#shared && id === this.#open,
        })),
    );
  }

  /** Makes a list and opens it; its id. */
  make(name, { likes = [], dislikes = [] } = {}) {
    const id = crypto.getRandomValues(new Uint32Array(2)).join("-");
    this.#edit(() => {
      const list = emptyList(cleanName(name) || "Songs", this.#tick());
      for (const song of dislikes) this.#put(list.songs, song, NOT_FOR_ME);
      for (const song of likes) this.#put(list.songs, song, LIKED);
      this.#kept.lists[id] = list;
      this.#leaveLink();
      this.#open = id;
    });
    return id;
  }

  open(id) {
    if (!this.#isThere(id)) return;
    this.#edit(() => {
      this.#leaveLink();
      this.#open = id;
    });
  }

  rename(name) {
    const clean = cleanName(name);
    if (clean) this.#edit(() => Object.assign(this.#list, { name: clean, named: this.#tick() }));
  }

  /** Remove a kept list; the last one is emptied. */
  remove(id) {
    this.#edit(() => {
      if (this.lists.length < 2) {
        this.#removeAll();
        return;
      }
      this.#kept.lists[id].gone = this.#tick();
      this.#views = null;
      if (this.#open === id) this.#open = this.lists[0].id;
    });
  }

  /** Take back `remove`, and open the list. */
  bringBack(id) {
    this.#edit(() => {
      this.#kept.lists[id].back = this.#tick();
      this.#leaveLink();
      this.#open = id;
    });
  }

  /** Keep the list of a link as one of one's own, and open it. */
  keepShared() {
    const shared = this.#shared;
    const { list } = shared;
    const id = this.make(list.name);
    shared.keptAs = id; // for snapshots of before
    this.#edit(() => Object.assign(this.#kept.lists[id], { songs: list.songs, artists: list.artists }));
  }

  /** Leave the list of a link; the one before is open again. */
  leaveShared() {
    this.#edit(() => this.#leaveLink());
  }

  #leaveLink() {
    if (!this.#shared) return;
    this.#shared = null;
    history.replaceState(null, "", location.pathname + location.search);
  }

  #isThere(id) {
    return Object.hasOwn(this.#kept.lists, id ?? "") && isThere(this.#kept.lists[id]);
  }

  // --- options ---

  /**
   * Declare an option before it is used. `initial`: its value at first; `clean(value)`: a valid value for any value;
   * `into(query, value, store)`: adds it to the body of a request for recommendations; `link`: its name in links, where
   * objects are in JSON; null if it is no matter of the list that a link shares.
   */
  define(name, { initial, clean = (value) => value, into = () => {}, link = name }) {
    this.#options.set(name, { initial, clean, into, link });
  }

  get(name) {
    const { initial, clean } = this.#options.get(name);
    const given = this.#optionsWith(name)[name];
    return given === undefined ? initial : clean(given);
  }

  /** Whether an option differs from what it is at first. */
  isChanged(name) {
    return !equal(this.get(name), this.#options.get(name).initial);
  }

  set(options) {
    this.#edit(() => {
      for (const [name, value] of Object.entries(options)) this.#optionsWith(name)[name] = value;
      this.#kept.chosen = this.#tick();
    });
  }

  #optionsWith(name) {
    return this.#shared && this.#options.get(name).link !== null ? this.#shared.options : this.#kept.options;
  }

  /** The body of a request for recommendations. */
  query(k) {
    const query = { likes: this.likes.slice(-MOST_ASKED), dislikes: this.dislikes.slice(-MOST_ASKED), k };
    const ids = (artists) => artists.slice(-MOST_ARTISTS).map((artist) => artist.artist_id);
    if (this.artists.length) query.artists = ids(this.artists);
    if (this.notArtists.length) query.not_artists = ids(this.notArtists);
    for (const [name, { into }] of this.#options) into(query, this.get(name), this);
    return query;
  }

  // --- songs heard ---

  /** Songs that were played or opened here, by id, with the time in milliseconds. */
  get heard() {
    return this.#heard;
  }

  hear(id) {
    this.#readHeard(read(local, HEARD));
    this.#heard.delete(id);
    this.#heard.set(id, Date.now());
    const newest = [...this.#heard].sort(([, one], [, other]) => one - other).slice(-MOST_HEARD);
    this.#heard = new Map(newest);
    write(local, HEARD, JSON.stringify(newest));
    this.dispatchEvent(new Event("heard"));
  }

  #readHeard(given) {
    if (!Array.isArray(given)) return;
    for (const [id, time] of given.filter(Array.isArray)) {
      if (typeof id === "string" && Number.isFinite(time)) this.#heard.set(id, Math.max(time, this.#heard.get(id) ?? 0));
    }
  }

  // --- links and back-ups ---

  /** An address that opens the page with the open list and the options. */
  link() {
    const given = new URLSearchParams();
    const add = (name, ids) => {
      // Ids are encoded one by one, since they may contain commas.
      if (ids.length) given.set(name, ids.map(encodeURIComponent).join(","));
    };
    add("likes", this.likes);
    add("dislikes", this.dislikes);
    for (const [name, artists] of [["artists", this.artists], ["not-artists", this.notArtists]]) {
      add(name, artists.flatMap((artist) => [artist.artist_id, artist.name]));
    }
    given.set("name", this.name);
    for (const [name, { link }] of this.#options) {
      if (link === null || !this.isChanged(name)) continue;
      const value = this.get(name);
      given.set(link, typeof value === "object" ? JSON.stringify(value) : String(value));
    }
    return `${location.origin}${location.pathname}#${given}`;
  }

  /** Open the list of a link, its part after #; false if that has no list. */
  openLink(fragment) {
    const given = new URLSearchParams(fragment.replace(/^#/, ""));
    if (!["likes", "dislikes", "artists", "not-artists"].some((name) => given.has(name))) return false;
    const ids = (name) => idsOf(given, name);
    const list = emptyList(cleanName(given.get("name")) || "Shared songs", 0);
    for (const id of ids("dislikes")) this.#put(list.songs, id, NOT_FOR_ME);
    for (const id of ids("likes")) this.#put(list.songs, id, LIKED);
    for (const [name, opinion] of [["artists", LIKED], ["not-artists", NOT_FOR_ME]]) {
      const parts = ids(name);
      for (let at = 0; at + 1 < parts.length; at += 2) this.#put(list.artists, parts[at], opinion, parts[at + 1]);
    }
    this.#shared = { list, options: {} };
    this.#linkOptions = given;
    this.#views = null;
    return true;
  }

  #linkOptions = null;

  /** Read the options of the link, once all are declared; those that it does not name are as they are at first. */
  readOptionsOfLink() {
    if (!this.#linkOptions) return;
    for (const [name, { initial, link }] of this.#options) {
      if (link === null || !this.#linkOptions.has(link)) continue;
      const text = this.#linkOptions.get(link);
      this.#shared.options[name] = typeof initial === "object" && initial !== null ? parsed(text) : text;
    }
    this.#linkOptions = null;
  }

  /** Everything kept, as the text of a file. */
  backUp() {
    const content = { tunegraph: "lists", ...pruned(this.#kept, Date.now()), heard: [...this.#heard] };
    return JSON.stringify(content, null, 1);
  }

  /** Add the lists of a back-up to those here; the number of its lists. Raises Error if it is none. */
  restoreBackUp(text) {
    const given = parsed(text);
    if (given?.tunegraph !== "lists") throw new Error("This is not a back-up of this page.");
    const kept = cleaned(given);
    this.#edit(() => {
      this.#kept = merged(this.#kept, kept);
      this.#readHeard(given.heard);
      // A list that was removed since is wanted again.
      for (const [id, list] of Object.entries(kept.lists)) {
        if (isThere(list) && !this.#isThere(id)) this.#kept.lists[id].back = this.#tick();
      }
    });
    return Object.values(kept.lists).filter(isThere).length;
  }

  // --- changing and keeping ---

  /** A time later than that of any change so far, even where clocks of tabs differ. */
  #tick() {
    this.#clock = Math.max(this.#clock + 0.001, Date.now());
    return this.#clock;
  }

  #latest() {
    let latest = 0;
    for (const list of Object.values(this.#kept.lists)) {
      for (const entry of [...Object.values(list.songs), ...Object.values(list.artists)]) {
        latest = Math.max(latest, entry[1], entry[2]);
      }
    }
    return latest;
  }

  #edit(change) {
    // What another tab kept just now may not have arrived as an event yet.
    const text = textOf(local, KEPT);
    if (text !== null && text !== this.#written) this.#kept = merged(this.#kept, cleaned(parsed(text)));
    this.#views = null;
    change();
    this.#views = null;
    if (this.#shared) {
      // The link is all that keeps a shared list, so it always has what is shown; a reload shows the same.
      history.replaceState(null, "", this.link());
    } else if (location.hash) {
      // A link in the address bar is out of date now; a reload must not open it.
      history.replaceState(null, "", location.pathname + location.search);
    }
    this.#keep();
    this.dispatchEvent(new Event("change"));
  }

  #keep() {
    this.#written = JSON.stringify(this.#kept);
    this.isKept = write(local, KEPT, this.#written);
    write(session, OPEN, JSON.stringify(this.#open));
  }

  /** Whether the browser keeps lists. */
  isKept = true;
  #written = ""; // the text that this tab kept last

  #fromOtherTab(event) {
    if (event.key === HEARD) this.#readHeard(read(local, HEARD));
    if (event.key !== KEPT) return;
    if (event.newValue === null) return; // cleared by the browser: this tab goes on with what it has
    // A third tab may have kept something since, without having seen this.
    const theirs = cleaned(parsed(textOf(local, KEPT)));
    const both = merged(merged(this.#kept, cleaned(parsed(event.newValue))), theirs);
    const news = !equal(both, this.#kept);
    this.#kept = both;
    this.#clock = Math.max(this.#clock, this.#latest());
    this.#views = null;
    if (!this.#isThere(this.#open)) this.#open = this.lists[0]?.id ?? FIRST_LIST;
    // Two tabs that changed at the same moment: who sees that something is missing adds it.
    if (!equal(both, theirs)) this.#keep();
    if (news) this.dispatchEvent(new Event("change"));
  }
}

/** The ids that the parameters of a link have under a name, in their order. */
export function idsOf(given, name) {
  return (given.get(name) ?? "").split(",").filter(Boolean).map(decoded);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export const store = new Store();
