// Hearing songs. Here: the queue, the bar of the player, and the radio, which asks for more songs near the end of the
// queue. Not here: which songs are recommended.
//
// A song is heard as its preview, or in the embedded player of a service, which tells the page nothing: there the
// listener goes on to the next song.

import { Job, ServiceError, post } from "./api.js";
import { cover } from "./cover.js";
import { $, element, icon, iconButton, say } from "./dom.js";
import { whenAllowed } from "./others.js";
import { recommendations } from "./recommendations.js";
import { heartOf, learn, nameOf, playing, songActions, titleOf } from "./songs.js";
import { SERVICES } from "./options.js";
import { store } from "./store.js";

const NEAR_END = 3; // songs left in the queue from which more are asked for
const ASKED = 40; // songs asked for at once
const MOST_ROUNDS = 5; // answers in a row without a song that can be played
const MOST_EXCLUDED = 2000; // the service's limit

const FRAMES = {
  spotify: (id) => `https://open.spotify.com/embed/track/${id}`,
  deezer: (id) => `https://widget.deezer.com/widget/auto/track/${id}`,
  youtube: (id) => `https://www.youtube-nocookie.com/embed/${id}?autoplay=1`,
};

/** The embedded player of a song as { service, address }, null if no service of its links has one. */
function frameOf(song) {
  for (const [service, address] of Object.entries(FRAMES)) {
    const page = song.links?.[service];
    const id = page?.match(/(?:\/track\/|[?&]v=)([A-Za-z0-9_-]+)/)?.[1];
    if (id) return { service, address: address(id) };
  }
  return null;
}

const hasPreview = (song) => Boolean(song.preview_url?.startsWith("https://"));
const canPlay = (song) => hasPreview(song) || frameOf(song) !== null;

const sound = new Audio();
sound.preload = "none";

let queue = []; // songs
let at = -1; // the place in the queue that plays
let isAsking = false;

const current = () => queue[at] ?? null;

function sourceOf(song) {
  return hasPreview(song) ? new URL(song.preview_url).hostname : SERVICES[frameOf(song).service];
}

/** Play these songs, from one of them, and go on with others like the open list. */
function play(songs, first) {
  const playable = songs.filter(canPlay);
  const start = Math.max(0, playable.findIndex((song) => song.track_id === first?.track_id));
  if (!playable.length) {
    say("None of these songs can be played here");
    return;
  }
  whenAllowed(sourceOf(playable[start]), () => {
    queue = playable;
    go(start);
  });
}

function enqueue(song) {
  if (!current()) {
    play([song], song);
    return;
  }
  const rest = queue.slice(at + 1).filter((other) => other.track_id !== song.track_id);
  queue = [...queue.slice(0, at + 1), song, ...rest];
  say(`${titleOf(song)}: plays next`);
  show();
}

function go(place) {
  at = place;
  const song = current();
  if (!song) {
    stop();
    return;
  }
  store.hear(song.track_id);
  sound.pause();
  if (hasPreview(song)) {
    sound.src = song.preview_url;
    sound.play().catch((error) => {
      if (error.name === "AbortError") return;
      if (error.name === "NotAllowedError") show(); // the browser wants a press on play first
      else fail();
    });
  } else sound.removeAttribute("src");
  show();
  if (queue.length - at <= NEAR_END) radio.run();
}

function fail() {
  const song = current();
  if (!song) return;
  say(`The preview of ${titleOf(song)} cannot be played`);
  if (at + 1 < queue.length) go(at + 1);
  else stop();
}

function stop() {
  sound.pause();
  sound.removeAttribute("src");
  queue = [];
  at = -1;
  show();
}

function toggle() {
  if (sound.paused) sound.play().catch(() => {});
  else sound.pause();
}

// --- the radio ---

const radio = new Job(async () => {
  if (isAsking) return;
  isAsking = true;
  try {
    const passed = [];
    for (let round = 0; round < MOST_ROUNDS && current() && queue.length - at <= NEAR_END; round += 1) {
      const query = store.query(ASKED);
      // Of what was heard the newest, if the service takes no more.
      const heard = [...store.heard.keys()].reverse();
      const exclude = [...queue.map((song) => song.track_id), ...passed, ...(query.exclude ?? []), ...heard];
      query.exclude = [...new Set(exclude)].slice(0, MOST_EXCLUDED);
      const { items } = await post("recommendations", query);
      if (!items.length || !current()) break;
      learn(items);
      passed.push(...items.map((song) => song.track_id));
      queue.push(...items.filter(canPlay));
    }
  } finally {
    isAsking = false;
  }
  show();
}, (error) => {
  // Nothing plays any more where there is no note.
  if ($("player-note")) $("player-note").textContent = error instanceof ServiceError ? error.message : "";
});

// --- showing ---

function labelled(name, label, act, isOff = false) {
  const made = iconButton(`player-${name}`, name, label, act);
  made.disabled = isOff;
  return made;
}

function show() {
  const song = current();
  $("player").hidden = !song;
  document.body.classList.toggle("with-player", Boolean(song));
  for (const one of document.querySelectorAll(".song .play")) markButton(one);
  showSession(song);
  if (!song) {
    $("player").replaceChildren();
    return;
  }
  const frame = hasPreview(song) ? null : frameOf(song);
  const isPaused = sound.paused;
  const held = $("player").contains(document.activeElement) ? document.activeElement.className : null;
  const kept = $("player").querySelector("iframe");
  const embedded =
    frame &&
    (kept?.src === frame.address
      ? kept
      : element("iframe", {
          src: frame.address,
          title: `${titleOf(song)}, in the player of ${SERVICES[frame.service]}`,
          allow: "autoplay; encrypted-media",
          referrerpolicy: "no-referrer",
          sandbox: "allow-scripts allow-same-origin allow-popups",
        }));
  const coming = queue[at + 1];
  const bar = element(
    "div",
    { class: "bar" },
    cover(song, store.get("media")),
    element(
      "div",
      { class: "title" },
      element("p", { class: "name", title: titleOf(song) }, nameOf(song)),
      element("p", { class: "artists" }, song.artists || " "),
    ),
    heartOf(song),
    labelled("previous", "Previous song", () => go(at - 1), at === 0),
    frame ? null : labelled(isPaused ? "play" : "pause", isPaused ? "Play" : "Pause", toggle),
    labelled("next", coming ? `Next song: ${titleOf(coming)}` : "Next song", () => go(at + 1), !coming),
    labelled("stop", "Stop playing", stop),
  );
  const parts = [element("progress", { max: "1", value: "0", "aria-label": "Position in the preview" }), bar];
  if (frame) parts.shift();
  // An embedded player that stays is not moved, since moving it would start it again.
  if (embedded && embedded === kept) {
    for (const one of [...$("player").children]) if (one !== kept) one.remove();
    $("player").append(...parts, element("p", { id: "player-note", class: "hint", role: "status" }));
  } else {
    $("player").replaceChildren(
      ...(embedded ? [embedded] : []),
      ...parts,
      element("p", { id: "player-note", class: "hint", role: "status" }),
    );
  }
  if (held) $("player").querySelector(`button[class="${CSS.escape(held)}"]:not(:disabled)`)?.focus();
}

function showSession(song) {
  if (!navigator.mediaSession) return;
  if (!song) {
    navigator.mediaSession.metadata = null;
    navigator.mediaSession.playbackState = "none";
    return;
  }
  const artwork = song.image_url?.startsWith("https://") ? [{ src: song.image_url }] : [];
  navigator.mediaSession.metadata = new MediaMetadata({ title: nameOf(song), artist: song.artists, artwork });
  navigator.mediaSession.playbackState = sound.paused ? "paused" : "playing";
}

function markButton(button) {
  const isThis = current()?.track_id === button.dataset.track;
  const isOn = isThis && !(hasPreview(current()) && sound.paused);
  button.setAttribute("aria-pressed", String(isOn));
  button.replaceChildren(icon(isOn && hasPreview(current()) ? "pause" : isOn ? "stop" : "play"));
}

playing.button = (song, where) => {
  if (!canPlay(song)) return null;
  const label = `Play ${hasPreview(song) ? "a preview of " : ""}${titleOf(song)}`;
  const made = iconButton("play", "play", label, () => {
    if (current()?.track_id !== song.track_id) {
      play(where === "recommendations" ? recommendations.items : [song], song);
    } else if (hasPreview(song)) toggle();
    else stop();
  });
  made.dataset.track = song.track_id;
  markButton(made);
  return made;
};

export function startPlayer() {
  for (const name of ["play", "pause"]) sound.addEventListener(name, show);
  sound.addEventListener("ended", () => (at + 1 < queue.length ? go(at + 1) : stop()));
  sound.addEventListener("error", () => sound.hasAttribute("src") && fail());
  sound.addEventListener("timeupdate", () => {
    const shown = $("player").querySelector("progress");
    if (shown && sound.duration) shown.value = sound.currentTime / sound.duration;
  });
  for (const [action, act] of [
    ["play", () => sound.play()],
    ["pause", () => sound.pause()],
    ["stop", stop],
    ["previoustrack", () => at > 0 && go(at - 1)],
    ["nexttrack", () => at + 1 < queue.length && go(at + 1)],
  ]) {
    try {
      navigator.mediaSession?.setActionHandler(action, act);
    } catch {
      // A browser without this key.
    }
  }
  songActions.push({ icon: "queue", text: "Play next", when: canPlay, act: enqueue });
  $("radio").addEventListener("click", () => play(recommendations.items));
  const offer = () => ($("radio").hidden = !recommendations.items.some(canPlay));
  recommendations.addEventListener("answer", offer);
  store.addEventListener("change", () => {
    if (!store.get("media") && current()) stop();
    else if (current()) show();
  });
  offer();
}
