// The map of songs. Here: the view of it, moving and zooming that by mouse, touch and keyboard, which song is pointed
// at, and what is drawn on top of the points. Not here: the points (`map_points.js`), or the rest of the section
// (`map_view.js`).

import { HUES, MapPoints } from "./map_points.js";

const REACH = 16; // pixels from a song within which it is pointed at
const CLOSEST = 100;
const NAMED = 3; // scale from which songs have their names next to them, if there is room
const MOST_NAMES = 24;
const MOST_SPREAD = 80; // songs that are moved apart
const REST = 160; // milliseconds without movement before names are asked for
const GLIDE = 260; // milliseconds
const SLOW = 21; // milliseconds between two frames of a movement from which fewer points are drawn until it ends
const FAST = 18;
const FEWEST = 2000; // points that are drawn however slow it is
const CONTROLS = [52, 230]; // pixels from the right upper corner that have buttons
const DOUBLE = 300; // milliseconds between two taps that are one double tap

const still = matchMedia("(prefers-reduced-motion: reduce)");

/** The points of a map: coordinates, hues from 0 to HUES, and the songs at them, made when they are asked for. */
class Points {
  #songs = new Map();

  constructor(x, y, hues) {
    [this.x, this.y, this.hues] = [x, y, hues];
  }

  /** The song at a place of the lists. Its `track_id` is undefined until `learnt`. */
  song(place) {
    if (!this.#songs.has(place)) this.#songs.set(place, { place, x: this.x[place], y: this.y[place], hue: this.hues[place] });
    return this.#songs.get(place);
  }

  learnt(place, texts) {
    Object.assign(this.song(place), texts);
  }
}

/**
 * Songs drawn by their x and y in [0, 1]. `on.point(song)` is called with the song pointed at, or null, and again when
 * it moves; `on.select(song)` with the song tapped, or null; `on.choose(song)` with the one pointed at when Enter is
 * pressed; `on.rest(songs)` with songs in the view, most liked first, whose names would be shown if they were known;
 * `on.oneFinger()` and `on.wheel()` when somebody tries what scrolls the page.
 */
export class SongMap {
  #paper;
  #drawn;
  #width = 0;
  #height = 0;
  #size = 0; // of the whole map at scale 1: the shorter side
  #density = 1;
  #view = { x: 0.5, y: 0.5, scale: 1 };
  #points = new Points([], [], []);
  #regions = [];
  #likes = [];
  #recommendations = [];
  #places = new Map(); // where the user's songs and the recommendations are drawn, moved apart if they overlap
  #pointed = null;
  #reported = false;
  #selected = null;
  #only = -1;
  #pointers = new Map();
  #fingers = [];
  #tap = null;
  #moved = false;
  #colours = {};
  #step = -1;
  #frame = 0;
  #painted = 0; // when the last frame began
  #moving = false;
  #most = Infinity; // points that are drawn while the map moves
  #gliding = 0;
  #resting = 0;

  constructor(canvas, on) {
    this.canvas = canvas;
    this.on = on;
    const below = document.createElement("canvas");
    below.className = "points";
    below.setAttribute("aria-hidden", "true");
    canvas.before(below);
    this.#paper = canvas.getContext("2d");
    this.#drawn = new MapPoints(below, () => this.#paint());
    this.below = below;
    new ResizeObserver(() => this.#fit()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#pointers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => this.#point(null));
    canvas.addEventListener("dblclick", (event) => this.zoom(2, this.#at(event)));
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    for (const kind of ["touchstart", "touchmove", "touchend", "touchcancel"]) {
      canvas.addEventListener(kind, (event) => this.#touch(event), { passive: false });
    }
    this.#fit();
  }

  /** Whether one finger moves the map, since there is no page around it to scroll. */
  alone = false;

  /** The songs in the background, as lists of one length, and the names of regions: {name, x, y, songs}. */
  setPoints(x, y, hues, regions) {
    this.#points = new Points(x, y, hues);
    this.#regions = regions.toSorted((one, other) => other.songs - one.songs);
    this.#drawn.setPoints(x, y, hues);
    this.#most = x.length;
    this.#rest();
    this.#paint();
  }

  /** The names of songs at places of the lists of points: [[place, {track_id, name, artists}]]. */
  learn(texts) {
    for (const [place, text] of texts) this.#points.learnt(place, text);
    this.#paint();
  }

  /** The user's songs and the recommendations. Does not move the view. */
  setSongs(likes, recommendations) {
    this.#likes = likes;
    this.#recommendations = recommendations;
    this.#step = -1;
    this.#paint();
  }

  /** Let the songs of one hue stand out; -1 for all. */
  setOnly(hue) {
    this.#only = hue;
    this.#paint();
  }

  /** Mark a song that is pointed at outside of the map; null for none. */
  mark(song) {
    this.#point(null);
    this.#pointed = song;
    this.#paint();
  }

  select(song) {
    if (song === this.#selected) return;
    this.#selected = song;
    this.#paint();
    this.on.select(song);
  }

  zoom(factor, at = [this.#width / 2, this.#height / 2]) {
    this.#lookSoon(this.#zoomed(factor, at));
  }

  whole() {
    this.#lookSoon({ x: 0.5, y: 0.5, scale: 1 });
  }

  /** Show the user's songs and the recommendations as large as they fit. False if there are none. */
  fit() {
    const songs = [...this.#likes, ...this.#recommendations];
    if (!songs.length) return false;
    const [left, right] = ends(songs.map((song) => song.x));
    const [top, bottom] = ends(songs.map((song) => song.y));
    const scale = Math.min(CLOSEST / 4, Math.max(1, 0.68 / Math.max(right - left, bottom - top, 0.001)));
    this.#lookSoon({ x: (left + right) / 2, y: (top + bottom) / 2, scale });
    return true;
  }

  /** Go to a song. */
  goTo(song) {
    this.#lookSoon({ x: song.x, y: song.y, scale: Math.max(this.#view.scale, 6) });
  }

  /** Where on the canvas a song is, in pixels. */
  placeOf(song) {
    return this.#places.get(song) ?? this.#place(song);
  }

  /** Read the colours of the page again. */
  recolour() {
    const style = getComputedStyle(this.canvas);
    const rgb = (name) => colourOf(style.getPropertyValue(name).trim());
    for (const name of ["others", "liked", "accent", "card", "page", "on-accent", "text"]) {
      this.#colours[name] = style.getPropertyValue(`--${name}`).trim();
    }
    this.#drawn.setColours([...Array.from({ length: HUES }, (_, hue) => rgb(`--genre-${hue + 1}`)), rgb("--others")]);
    this.#paint();
  }

  #place(song) {
    const { x, y, scale } = this.#view;
    const zoomed = scale * this.#size;
    return [this.#width / 2 + (song.x - x) * zoomed, this.#height / 2 + (song.y - y) * zoomed];
  }

  #unplace([left, top]) {
    const { x, y, scale } = this.#view;
    const zoomed = scale * this.#size;
    return [x + (left - this.#width / 2) / zoomed, y + (top - this.#height / 2) / zoomed];
  }

  #isSeen([left, top], around = 0) {
    return left >= -around && top >= -around && left <= this.#width + around && top <= this.#height + around;
  }

  #zoomed(factor, at) {
    const [x, y] = this.#unplace(at);
    const scale = Math.min(CLOSEST, Math.max(1, this.#view.scale * factor));
    const kept = this.#view.scale / scale;
    return { x: x + (this.#view.x - x) * kept, y: y + (this.#view.y - y) * kept, scale };
  }

  #within({ x, y, scale }) {
    // The whole map cannot be moved; zoomed in, the view may extend a little beyond its edge, where songs are too.
    const inside = (value, length) => {
      const edge = Math.max(0, length / (2 * this.#size * scale) - 0.25 * (1 - 1 / scale));
      return edge < 0.5 ? Math.min(1 - edge, Math.max(edge, value)) : 0.5;
    };
    return { x: inside(x, this.#width), y: inside(y, this.#height), scale };
  }

  #look({ x, y, scale }) {
    this.#view = this.#within({ x, y, scale });
    this.#rest();
    this.#paint();
  }

  /** The same, gliding there unless the user does not want movement. */
  #lookSoon(view) {
    cancelAnimationFrame(this.#gliding);
    if (still.matches) {
      this.#look(view);
      return;
    }
    const [from, to, start] = [this.#view, this.#within(view), performance.now()];
    const step = (now) => {
      const part = Math.min(1, Math.max(0, now - start) / GLIDE);
      const eased = 1 - (1 - part) ** 3;
      const scale = from.scale * (to.scale / from.scale) ** eased;
      // With the scale, so that the way looks straight: linear in what 1 / scale does.
      const share = from.scale === to.scale ? eased : (1 / from.scale - 1 / scale) / (1 / from.scale - 1 / to.scale);
      this.#look({ x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share, scale });
      if (part < 1) this.#gliding = requestAnimationFrame(step);
    };
    this.#gliding = requestAnimationFrame(step);
  }

  #rest() {
    this.#moving = true;
    clearTimeout(this.#resting);
    this.#resting = setTimeout(() => {
      this.#moving = false;
      this.#paint();
      const nameless = this.#inView(2 * MOST_NAMES).filter((song) => song.track_id === undefined);
      if (this.#view.scale >= NAMED && nameless.length) this.on.rest(nameless);
    }, REST);
  }

  /** Points that are seen, most liked first. */
  #inView(most) {
    const seen = [];
    const { x: xs, y: ys } = this.#points;
    const { x, y, scale } = this.#view;
    const [across, down] = [this.#width, this.#height].map((length) => length / (2 * this.#size * scale));
    for (let place = 0; place < xs.length && seen.length < most; place += 1) {
      if (Math.abs(xs[place] - x) < across && Math.abs(ys[place] - y) < down) seen.push(this.#points.song(place));
    }
    return seen;
  }

  #fit() {
    this.#density = window.devicePixelRatio || 1;
    [this.#width, this.#height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    this.#size = Math.min(this.#width, this.#height);
    for (const canvas of [this.canvas, this.below]) {
      canvas.width = Math.round(this.#width * this.#density);
      canvas.height = Math.round(this.#height * this.#density);
    }
    if (this.#size) this.#view = this.#within(this.#view);
    this.recolour();
    this.#paintNow();
  }

  #paint() {
    this.#frame ||= requestAnimationFrame((now) => {
      this.#pace(now - this.#painted);
      this.#painted = now;
      this.#paintNow();
    });
  }

  /** Adapt the number of points to the time that frames take on this device, most of which is not the script's. */
  #pace(passed) {
    if (!this.#moving || passed > 500) return;
    const n = this.#points.x.length;
    if (passed > SLOW) this.#most = Math.max(FEWEST, 0.7 * Math.min(n, this.#most));
    else if (passed < FAST) this.#most = Math.min(n, 1.03 * this.#most);
  }

  #paintNow() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (!this.#size) return;
    const closer = Math.sqrt(this.#view.scale);
    const dense = (0.5 * this.#size) / Math.sqrt(Math.max(1, this.#points.x.length));
    const radius = Math.min(5, Math.min(1.9, Math.max(0.8, dense)) * closer);
    const view = { ...this.#view, size: this.#size * this.#density };
    this.#drawn.draw(view, this.#moving ? Math.round(this.#most) : Infinity, radius, this.#density, this.#only);
    const paper = this.#paper;
    paper.setTransform(this.#density, 0, 0, this.#density, 0, 0);
    paper.clearRect(0, 0, this.#width, this.#height);
    this.#spread();
    this.#lead();
    const taken = [...this.#places.values()].map(([left, top]) => [left - 9, top - 9, left + 9, top + 9]);
    taken.push([this.#width - CONTROLS[0], 0, this.#width, CONTROLS[1]]);
    this.#nameRegions(taken);
    for (const song of this.#likes) this.#heart(song);
    paper.font = "700 10px system-ui, sans-serif";
    paper.textAlign = "center";
    paper.textBaseline = "middle";
    // From last to first, so that the best is on top.
    for (let rank = this.#recommendations.length; rank > 0; rank -= 1) this.#badge(this.#recommendations[rank - 1], rank);
    this.#nameSongs(taken);
    for (const [song, width] of [[this.#selected, 3], [this.#pointed, 2]]) if (song) this.#ring(song, width);
    if (this.#reported) this.on.point(this.#pointed); // its place, or its name, may be another by now
  }

  /** Move the user's songs and the recommendations apart where they overlap. */
  #spread() {
    const near = this.#recommendations.map((song) => [song, 9]);
    for (const song of this.#likes.slice(-MOST_SPREAD)) near.push([song, 8]);
    const spread = near.slice(0, MOST_SPREAD).map(([song, radius]) => ({ song, radius, at: this.#place(song) }));
    for (let turn = 0; turn < 30; turn += 1) {
      let moved = false;
      spread.forEach((one, place) => {
        for (const other of spread.slice(0, place)) {
          const across = one.at[0] - other.at[0];
          const down = one.at[1] - other.at[1];
          const apart = Math.hypot(across, down);
          const missing = one.radius + other.radius + 1 - apart;
          if (missing <= 0.1) continue;
          // Songs at the same point move apart in different directions.
          const [x, y] = apart > 0.01 ? [across / apart, down / apart] : [Math.cos(place), Math.sin(place)];
          one.at = [one.at[0] + (x * missing) / 2, one.at[1] + (y * missing) / 2];
          other.at = [other.at[0] - (x * missing) / 2, other.at[1] - (y * missing) / 2];
          moved = true;
        }
      });
      if (!moved) break;
    }
    this.#places = new Map(spread.map(({ song, at }) => [song, at]));
    // At the edge of the map they stay visible; those outside of the view stay outside.
    for (const { song, radius } of spread) {
      if (!this.#isSeen(this.#place(song))) continue;
      const inside = (value, length) => Math.min(length - radius - 1, Math.max(radius + 1, value));
      const [left, top] = this.#places.get(song);
      this.#places.set(song, [inside(left, this.#width), inside(top, this.#height)]);
    }
  }

  /** Lines from the positions of songs to where they were moved. */
  #lead() {
    const paper = this.#paper;
    paper.strokeStyle = this.#colours.text;
    paper.globalAlpha = 0.5;
    paper.lineWidth = 1;
    paper.beginPath();
    for (const [song, at] of this.#places) {
      const home = this.#place(song);
      if (Math.hypot(home[0] - at[0], home[1] - at[1]) < 6) continue;
      paper.moveTo(...home);
      paper.lineTo(...at);
    }
    paper.stroke();
    paper.globalAlpha = 1;
  }

  /** A song that the user likes: a heart, so that it is told from others without its colour. */
  #heart(song) {
    const [left, top] = this.placeOf(song);
    if (!this.#isSeen([left, top], 9)) return;
    const paper = this.#paper;
    paper.beginPath();
    paper.moveTo(left, top + 8);
    paper.bezierCurveTo(left - 12, top - 1, left - 7, top - 10, left, top - 4);
    paper.bezierCurveTo(left + 7, top - 10, left + 12, top - 1, left, top + 8);
    this.#outlined(this.#colours.liked);
  }

  /** A recommendation: a disc with its rank. */
  #badge(song, rank) {
    const [left, top] = this.placeOf(song);
    if (!this.#isSeen([left, top], 9)) return;
    const paper = this.#paper;
    paper.beginPath();
    paper.arc(left, top, 9, 0, 2 * Math.PI);
    this.#outlined(this.#colours.accent);
    paper.fillStyle = this.#colours["on-accent"];
    paper.fillText(String(rank), left, top + 0.5);
  }

  #outlined(colour) {
    const paper = this.#paper;
    paper.lineJoin = "round";
    paper.lineWidth = 4;
    paper.strokeStyle = this.#colours.card;
    paper.stroke();
    paper.fillStyle = colour;
    paper.fill();
  }

  #ring(song, width) {
    const paper = this.#paper;
    paper.beginPath();
    paper.arc(...this.placeOf(song), 13, 0, 2 * Math.PI);
    paper.strokeStyle = this.#colours.page;
    paper.lineWidth = width + 2;
    paper.stroke();
    paper.strokeStyle = this.#colours.text;
    paper.lineWidth = width;
    paper.stroke();
  }

  /** The names of regions, the largest first, where they overlap nothing. Adds the room they take to `taken`. */
  #nameRegions(taken) {
    const most = this.#regions[0]?.songs ?? 1;
    const written = [];
    for (const { name, x, y, songs } of this.#regions) {
      const height = Math.round(11 + 5 * Math.sqrt(songs / most));
      const at = this.#place({ x, y });
      if (!this.#isSeen(at)) continue;
      const half = this.#widthOf(name, `700 ${height}px`) / 2;
      for (const shift of [0, -18, 18, -36, 36, -54, 54]) {
        const right = at[1] + shift < CONTROLS[1] + 12 ? this.#width - CONTROLS[0] - 9 : this.#width - 6;
        const left = Math.min(right - half, Math.max(half + 6, at[0]));
        const top = Math.min(this.#height - 12, Math.max(12, at[1] + shift));
        const box = [left - half - 8, top - height / 2 - 5, left + half + 8, top + height / 2 + 5];
        if ([...written, ...taken].some((other) => overlap(box, other))) continue;
        written.push(box);
        this.#write(name, left - half, top, `700 ${height}px`, 0.92);
        break;
      }
    }
    taken.push(...written);
  }

  /** Names next to songs, the user's and the recommendations first, where they overlap nothing. */
  #nameSongs(taken) {
    if (this.#view.scale < NAMED) return;
    const named = new Set();
    for (const song of [...this.#recommendations, ...this.#likes, ...this.#inView(4 * MOST_NAMES)]) {
      const [left, top] = this.placeOf(song);
      if (!song.name || named.has(song.track_id) || !this.#isSeen([left, top])) continue;
      const text = song.name.length > 26 ? `${song.name.slice(0, 25)}…` : song.name;
      const from = left + (this.#places.has(song) ? 12 : 7);
      const box = [from, top - 7, from + this.#widthOf(text, "11px"), top + 7];
      if (box[2] > this.#width || top < 8 || taken.some((other) => overlap(box, other))) continue;
      taken.push(box);
      this.#write(text, from, top, "11px", 1);
      named.add(song.track_id);
      if (named.size === MOST_NAMES) return;
    }
  }

  #write(text, left, top, font, alpha) {
    const paper = this.#paper;
    paper.font = `${font} system-ui, sans-serif`;
    paper.textAlign = "left";
    paper.textBaseline = "middle";
    paper.lineJoin = "round";
    paper.lineWidth = 4;
    paper.globalAlpha = alpha;
    paper.strokeStyle = this.#colours.page;
    paper.strokeText(text, left, top);
    paper.fillStyle = this.#colours.text;
    paper.fillText(text, left, top);
    paper.globalAlpha = 1;
  }

  #widths = new Map();

  #widthOf(text, font) {
    const key = `${font} ${text}`;
    let width = this.#widths.get(key);
    if (width === undefined) {
      if (this.#widths.size > 5000) this.#widths.clear();
      this.#paper.font = `${font} system-ui, sans-serif`;
      width = this.#paper.measureText(text).width;
      this.#widths.set(key, width);
    }
    return width;
  }

  #nearest(at) {
    let best = null;
    let distance = REACH;
    // The user's songs and the recommendations come first, and win at equal distance.
    for (const song of [...this.#recommendations, ...this.#likes]) {
      const [left, top] = this.placeOf(song);
      const away = Math.hypot(left - at[0], top - at[1]);
      if (away < distance) [best, distance] = [song, away];
    }
    const { x: xs, y: ys, hues } = this.#points;
    const [x, y] = this.#unplace(at);
    let near = (distance / this.#size / this.#view.scale) ** 2;
    let found = -1;
    for (let place = 0; place < xs.length; place += 1) {
      const away = (xs[place] - x) ** 2 + (ys[place] - y) ** 2;
      if (away < near && (this.#only < 0 || hues[place] === this.#only)) [found, near] = [place, away];
    }
    return found < 0 ? best : this.#points.song(found);
  }

  #point(song) {
    if (song === this.#pointed && this.#reported === (song !== null)) return;
    this.#pointed = song;
    this.#reported = song !== null;
    this.#paint();
    this.on.point(song);
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  // --- mouse and pen ---

  #down(event) {
    if (event.pointerType === "touch" || event.button !== 0) return;
    cancelAnimationFrame(this.#gliding);
    this.canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#at(event));
    this.#moved = false;
  }

  #move(event) {
    if (event.pointerType === "touch") return;
    const at = this.#at(event);
    const before = this.#pointers.get(event.pointerId);
    if (!before) {
      this.#point(this.#nearest(at));
      return;
    }
    const [across, down] = [at[0] - before[0], at[1] - before[1]];
    if (Math.hypot(across, down) < 4 && !this.#moved) return;
    this.#moved = true;
    this.#shift(across, down);
    this.#pointers.set(event.pointerId, at);
  }

  #up(event) {
    if (event.pointerType === "touch" || !this.#pointers.delete(event.pointerId) || this.#moved) return;
    this.select(this.#nearest(this.#at(event)));
  }

  #shift(across, down) {
    const { x, y, scale } = this.#view;
    this.#look({ x: x - across / this.#size / scale, y: y - down / this.#size / scale, scale });
  }

  /** Zooms with Ctrl, which a pinch on a touchpad sends too, and while the map has the focus; else the page scrolls. */
  #wheel(event) {
    const meant = event.ctrlKey || event.metaKey || this.alone || document.activeElement === this.canvas;
    if (!meant) {
      this.on.wheel();
      return;
    }
    event.preventDefault();
    cancelAnimationFrame(this.#gliding);
    const delta = event.deltaMode === 1 ? 30 * event.deltaY : event.deltaY;
    this.#look(this.#zoomed(Math.exp(-delta / (event.ctrlKey ? 120 : 400)), this.#at(event)));
  }

  // --- touch: two fingers move and zoom the map, one scrolls the page past it ---

  #touch(event) {
    const fingers = [...event.targetTouches].map((touch) => this.#at(touch));
    const before = this.#fingers;
    this.#fingers = fingers;
    if (event.type === "touchstart") {
      cancelAnimationFrame(this.#gliding);
      this.#tap = fingers.length === 1 ? { at: fingers[0], from: fingers[0], since: event.timeStamp, last: this.#tap } : null;
      if (fingers.length > 1 || this.alone) event.preventDefault();
    } else if (event.type === "touchmove") {
      const [one, two] = fingers;
      if (this.#tap && Math.hypot(one[0] - this.#tap.from[0], one[1] - this.#tap.from[1]) > 10) this.#tap = null;
      if (fingers.length !== before.length) return;
      if (two) {
        event.preventDefault();
        this.#pinch(before, [one, two]);
      } else if (this.alone) {
        event.preventDefault();
        if (!this.#tap) this.#shift(one[0] - before[0][0], one[1] - before[0][1]);
      } else if (!this.#tap) {
        this.on.oneFinger();
      }
    } else if (event.type === "touchend" && this.#tap && !fingers.length) {
      event.preventDefault(); // no mouse events after it
      this.#tapped(this.#tap, event.timeStamp);
    } else if (event.type === "touchcancel") {
      this.#tap = null;
    }
  }

  #pinch([a, b], [c, d]) {
    const middle = (one, two) => [(one[0] + two[0]) / 2, (one[1] + two[1]) / 2];
    const apart = (one, two) => Math.max(1, Math.hypot(one[0] - two[0], one[1] - two[1]));
    const [from, to] = [middle(a, b), middle(c, d)];
    const { x, y, scale } = this.#zoomed(apart(c, d) / apart(a, b), from);
    this.#look({
      x: x - (to[0] - from[0]) / this.#size / scale,
      y: y - (to[1] - from[1]) / this.#size / scale,
      scale,
    });
  }

  #tapped(tap, now) {
    const last = tap.last;
    const again = last && now - last.ended < DOUBLE && Math.hypot(last.at[0] - tap.at[0], last.at[1] - tap.at[1]) < 24;
    this.#tap = again ? null : { at: tap.at, from: tap.from, ended: now };
    if (again) this.zoom(2, tap.at);
    else this.select(this.#nearest(tap.at));
  }

  // --- keyboard ---

  #key(event) {
    const stride = this.#size / 8;
    const moves = {
      ArrowLeft: [stride, 0],
      ArrowRight: [-stride, 0],
      ArrowUp: [0, stride],
      ArrowDown: [0, -stride],
    };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    if (moves[event.key]) {
      this.#shift(...moves[event.key]);
      this.#paintNow();
    } else if (key === "+" || key === "=") this.zoom(1.5);
    else if (key === "-") this.zoom(1 / 1.5);
    else if (key === "0") this.whole();
    else if (key === "f") this.fit();
    else if (key === "n") this.#next(event.shiftKey ? -1 : 1);
    else if (key === "enter" && this.#pointed) this.on.choose(this.#pointed);
    else if (key === "escape" && this.#selected) this.select(null);
    else return;
    event.preventDefault();
  }

  #next(direction) {
    const songs = [...this.#recommendations, ...this.#likes];
    if (!songs.length) return;
    this.#step = (this.#step + direction + songs.length + (this.#step < 0 && direction < 0 ? 1 : 0)) % songs.length;
    const song = songs[this.#step];
    this.#look({ x: song.x, y: song.y, scale: Math.max(this.#view.scale, 2) });
    this.#paintNow();
    this.#point(song);
  }
}

function ends(values) {
  return [Math.min(...values), Math.max(...values)];
}

function overlap([a, b, c, d], [left, top, right, bottom]) {
  return c >= left && a <= right && d >= top && b <= bottom;
}

/** A colour of a style sheet as [red, green, blue]. */
function colourOf(text) {
  const paper = document.createElement("canvas").getContext("2d");
  paper.fillStyle = text;
  paper.fillRect(0, 0, 1, 1);
  return [...paper.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}
