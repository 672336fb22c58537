// Liked and disliked songs, and options. Here: storing them between visits and in links. Not here: showing them.

const KEPT = "tunegraph";
const OPTIONS = { familiarity: 0.5, diversity: 0, maxPerArtist: null, explicit: true };
export const SERVICES = {
  spotify: "Spotify",
  apple: "Apple Music",
  youtube: "YouTube Music",
  deezer: "Deezer",
  tidal: "Tidal",
  musicbrainz: "MusicBrainz",
};
const MOST = 1000; // ids stored per list, within the limit of the service

function list(value) {
  return Array.isArray(value) ? [...new Set(value.filter((id) => typeof id === "string" && id))].slice(0, MOST) : [];
}

function share(value, otherwise) {
  const number = Number(value);
  return value !== null && value !== "" && number >= 0 && number <= 1 ? number : otherwise;
}

function sane(given) {
  const likes = list(given.likes);
  const quota = Number(given.maxPerArtist);
  return {
    likes,
    dislikes: list(given.dislikes).filter((id) => !likes.includes(id)),
    familiarity: share(given.familiarity ?? null, OPTIONS.familiarity),
    diversity: share(given.diversity ?? null, OPTIONS.diversity),
    maxPerArtist: [1, 2, 3].includes(quota) ? quota : null,
    explicit: given.explicit !== false,
    media: given.media !== false,
    links: Object.hasOwn(SERVICES, given.links ?? "") ? given.links : null,
  };
}

function ofLink(fragment) {
  const given = new URLSearchParams(fragment.replace(/^#/, ""));
  if (!given.has("likes") && !given.has("dislikes")) return null;
  // Ids are encoded one by one, since they may contain commas.
  const ids = (name) => (given.get(name) ?? "").split(",").filter(Boolean).map(decoded);
  return {
    likes: ids("likes"),
    dislikes: ids("dislikes"),
    familiarity: given.get("familiarity"),
    diversity: given.get("diversity"),
    maxPerArtist: given.get("artist"),
    explicit: given.get("explicit") !== "no",
  };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** A user's taste. Changes are stored at once and dispatch a `change` event. */
export class Taste extends EventTarget {
  constructor() {
    super();
    let kept = {};
    try {
      kept = JSON.parse(localStorage.getItem(KEPT) ?? "{}") ?? {};
    } catch {
      // The browser refuses storage, or the stored text is invalid: start with empty lists.
    }
    Object.assign(this, sane({ ...kept, ...ofLink(location.hash) }));
  }

  like(id) {
    this.#change({ likes: [...this.likes, id], dislikes: this.dislikes.filter((other) => other !== id) });
  }

  dislike(id) {
    this.#change({ dislikes: [...this.dislikes, id], likes: this.likes.filter((other) => other !== id) });
  }

  /** Neither liked nor disliked any more. */
  forget(id) {
    const others = (ids) => ids.filter((other) => other !== id);
    this.#change({ likes: others(this.likes), dislikes: others(this.dislikes) });
  }

  clear() {
    this.#change({ likes: [], dislikes: [] });
  }

  /** Both lists as they were before. */
  restore({ likes, dislikes }) {
    this.#change({ likes, dislikes });
  }

  set(options) {
    this.#change(options);
  }

  /** The body of a request for recommendations. */
  query(k) {
    return {
      likes: this.likes,
      dislikes: this.dislikes,
      k,
      familiarity: this.familiarity,
      diversity: this.diversity,
      max_per_artist: this.maxPerArtist,
      explicit: this.explicit,
      links: this.links,
    };
  }

  /** An address that opens the page with this taste. */
  link() {
    const given = new URLSearchParams();
    for (const name of ["likes", "dislikes"]) {
      if (this[name].length) given.set(name, this[name].map(encodeURIComponent).join(","));
    }
    for (const name of ["familiarity", "diversity"]) {
      if (this[name] !== OPTIONS[name]) given.set(name, String(this[name]));
    }
    if (this.maxPerArtist !== null) given.set("artist", String(this.maxPerArtist));
    if (!this.explicit) given.set("explicit", "no");
    return `${location.origin}${location.pathname}#${given}`;
  }

  #change(parts) {
    Object.assign(this, sane({ ...this, ...parts }));
    try {
      const { likes, dislikes, familiarity, diversity, maxPerArtist, explicit, media, links } = this;
      const kept = { likes, dislikes, familiarity, diversity, maxPerArtist, explicit, media, links };
      localStorage.setItem(KEPT, JSON.stringify(kept));
    } catch {
      // Without storage the page still works, and the link has the lists.
    }
    // The link that opened the page is out of date now; a reload must not restore it.
    if (location.hash) history.replaceState(null, "", location.pathname);
    this.dispatchEvent(new Event("change"));
  }
}
