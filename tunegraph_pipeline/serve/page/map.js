// The map of songs. Here: drawing, moving and zooming it, and which song is pointed at. Not here: choosing its songs.

const REACH = 14; // pixels from a song within which it is pointed at
const CLOSEST = 60;
const NAMED = 3; // scale from which songs have their names next to them, if there is room
const MOST_NAMES = 24;
const MOST_SPREAD = 80; // songs that are moved apart

/**
 * Songs drawn on a canvas by their x and y in [0, 1]. `onPoint(song)` is called with the song pointed at, or
 * null, and again when it moves; `onChoose(song)` with the song clicked.
 */
export class SongMap {
  #context;
  #size = 0;
  #view = { x: 0.5, y: 0.5, scale: 1 };
  #others = [];
  #likes = [];
  #recommendations = [];
  #places = new Map(); // where the user's songs and the recommendations are drawn, moved apart if they overlap
  #pointed = null;
  #reported = false;
  #pointers = new Map();
  #moved = false;
  #colours = {};
  #step = -1;

  constructor(canvas, onPoint, onChoose) {
    this.canvas = canvas;
    this.onPoint = onPoint;
    this.onChoose = onChoose;
    this.#context = canvas.getContext("2d");
    new ResizeObserver(() => this.#fit()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#paint());
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#pointers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => this.#point(null));
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    this.#fit();
  }

  /** The songs in the background. */
  setOthers(songs) {
    this.#others = songs;
    this.#paint();
  }

  /** The user's songs and the recommendations. Does not move the view. */
  setSongs(likes, recommendations) {
    this.#likes = likes;
    this.#recommendations = recommendations;
    this.#step = -1;
    this.#paint();
  }

  /** Mark a song that is pointed at outside of the map; null for none. */
  mark(song) {
    this.#point(null);
    this.#pointed = song;
    this.#paint();
  }

  zoom(factor, at = [this.#size / 2, this.#size / 2]) {
    const [x, y] = this.#unplace(at);
    const scale = Math.min(CLOSEST, Math.max(1, this.#view.scale * factor));
    const kept = this.#view.scale / scale;
    this.#look(x + (this.#view.x - x) * kept, y + (this.#view.y - y) * kept, scale);
  }

  whole() {
    this.#look(0.5, 0.5, 1);
  }

  /** Where on the canvas a song is, in pixels. */
  placeOf(song) {
    return this.#places.get(song) ?? this.#place(song);
  }

  #place(song) {
    const { x, y, scale } = this.#view;
    return [(0.5 + (song.x - x) * scale) * this.#size, (0.5 + (song.y - y) * scale) * this.#size];
  }

  #unplace([left, top]) {
    const { x, y, scale } = this.#view;
    return [x + (left / this.#size - 0.5) / scale, y + (top / this.#size - 0.5) / scale];
  }

  #look(x, y, scale) {
    // The whole map cannot be moved; zoomed in, the view may extend a little beyond its edge, where songs are too.
    const edge = Math.max(0, 0.5 / scale - 0.25 * (1 - 1 / scale));
    const within = (value) => Math.min(1 - edge, Math.max(edge, value));
    this.#view = { x: within(x), y: within(y), scale };
    this.#paint();
    if (this.#reported) this.onPoint(this.#pointed);
  }

  #fit() {
    const density = window.devicePixelRatio || 1;
    this.#size = this.canvas.clientWidth;
    this.canvas.width = this.canvas.height = Math.round(this.#size * density);
    this.#context.setTransform(density, 0, 0, density, 0, 0);
    this.#paint();
  }

  #paint() {
    const style = getComputedStyle(this.canvas);
    for (const name of ["others", "liked", "accent", "card", "page", "on-accent", "text"]) {
      this.#colours[name] = style.getPropertyValue(`--${name}`).trim();
    }
    const paper = this.#context;
    paper.clearRect(0, 0, this.#size, this.#size);
    const closer = Math.sqrt(this.#view.scale);
    paper.fillStyle = this.#colours.others;
    paper.globalAlpha = 0.6;
    for (const song of this.#others) this.#dot(song, Math.min(4, 1.4 * closer));
    paper.globalAlpha = 1;
    this.#spread();
    this.#lead();
    for (const song of this.#likes) this.#dot(song, 6, this.#colours.liked);
    paper.font = "600 10px system-ui, sans-serif";
    paper.textAlign = "center";
    paper.textBaseline = "middle";
    // From last to first, so that the best is on top.
    for (let rank = this.#recommendations.length; rank > 0; rank -= 1) {
      const song = this.#recommendations[rank - 1];
      this.#dot(song, 8, this.#colours.accent);
      paper.fillStyle = this.#colours["on-accent"];
      const [left, top] = this.placeOf(song);
      paper.fillText(String(rank), left, top + 0.5);
    }
    this.#name();
    if (this.#pointed) {
      const [left, top] = this.placeOf(this.#pointed);
      paper.beginPath();
      paper.arc(left, top, 12, 0, 2 * Math.PI);
      paper.strokeStyle = this.#colours.text;
      paper.lineWidth = 2;
      paper.stroke();
    }
  }

  /** Move the user's songs and the recommendations apart where they overlap. */
  #spread() {
    const near = this.#recommendations.map((song) => [song, 8]);
    for (const song of this.#likes.slice(-MOST_SPREAD)) near.push([song, 6]);
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
      const [left, top] = this.#place(song);
      if (left < 0 || top < 0 || left > this.#size || top > this.#size) continue;
      const within = (value) => Math.min(this.#size - radius - 1, Math.max(radius + 1, value));
      this.#places.set(song, this.#places.get(song).map(within));
    }
  }

  /** Lines from the positions of songs to where they were moved. */
  #lead() {
    const paper = this.#context;
    paper.strokeStyle = this.#colours.others;
    paper.lineWidth = 1;
    paper.beginPath();
    for (const [song, at] of this.#places) {
      const home = this.#place(song);
      if (Math.hypot(home[0] - at[0], home[1] - at[1]) < 6) continue;
      paper.moveTo(...home);
      paper.lineTo(...at);
    }
    paper.stroke();
  }

  /** Names next to songs, the user's and the recommendations first, where they overlap nothing. */
  #name() {
    if (this.#view.scale < NAMED) return;
    const paper = this.#context;
    const taken = [...this.#places.values()].map(([left, top]) => [left - 9, top - 9, left + 9, top + 9]);
    paper.font = "11px system-ui, sans-serif";
    paper.textAlign = "left";
    paper.lineJoin = "round";
    paper.lineWidth = 3;
    paper.strokeStyle = this.#colours.page;
    paper.fillStyle = this.#colours.text;
    const named = new Set();
    for (const song of [...this.#recommendations, ...this.#likes, ...this.#others]) {
      const [left, top] = this.placeOf(song);
      if (!song.name || named.has(song.track_id) || left < 0 || top < 0 || left > this.#size || top > this.#size) continue;
      const text = song.name.length > 26 ? `${song.name.slice(0, 25)}…` : song.name;
      const from = left + (this.#places.has(song) ? 11 : 6);
      const to = from + paper.measureText(text).width;
      const free = taken.every(([a, b, c, d]) => to < a || from > c || top + 7 < b || top - 7 > d);
      if (!free || to > this.#size || top < 8) continue;
      taken.push([from, top - 7, to, top + 7]);
      paper.strokeText(text, from, top);
      paper.fillText(text, from, top);
      named.add(song.track_id);
      if (named.size === MOST_NAMES) return;
    }
  }

  #dot(song, radius, colour) {
    const [left, top] = this.placeOf(song);
    if (left < -radius || top < -radius || left > this.#size + radius || top > this.#size + radius) return;
    const paper = this.#context;
    paper.beginPath();
    paper.arc(left, top, radius, 0, 2 * Math.PI);
    if (colour) {
      paper.fillStyle = colour;
      paper.fill();
      paper.strokeStyle = this.#colours.card;
      paper.lineWidth = 1.5;
      paper.stroke();
    } else {
      paper.fill();
    }
  }

  #nearest(at) {
    let best = null;
    let distance = REACH;
    // The user's songs and the recommendations come first, and win at equal distance.
    for (const song of [...this.#recommendations, ...this.#likes, ...this.#others]) {
      const [left, top] = this.placeOf(song);
      const away = Math.hypot(left - at[0], top - at[1]);
      if (away < distance) [best, distance] = [song, away];
    }
    return best;
  }

  #point(song) {
    if (song === this.#pointed && this.#reported === (song !== null)) return;
    this.#pointed = song;
    this.#reported = song !== null;
    this.#paint();
    this.onPoint(song);
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#at(event));
    this.#moved = false;
  }

  #move(event) {
    const at = this.#at(event);
    const before = this.#pointers.get(event.pointerId);
    if (!before) {
      this.#point(this.#nearest(at));
      return;
    }
    const [across, down] = [at[0] - before[0], at[1] - before[1]];
    if (this.#pointers.size === 1 && Math.hypot(across, down) < 4 && !this.#moved) return;
    this.#moved = true;
    if (this.#pointers.size > 1) {
      const other = [...this.#pointers].find(([id]) => id !== event.pointerId)[1];
      const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
      this.zoom(apart(at) / Math.max(1, apart(before)), other);
    } else {
      this.#shift(across, down);
    }
    this.#pointers.set(event.pointerId, at);
  }

  #up(event) {
    this.#pointers.delete(event.pointerId);
    if (this.#moved) return;
    const song = this.#nearest(this.#at(event));
    this.#point(song);
    if (song) this.onChoose(song);
  }

  #shift(across, down) {
    const { x, y, scale } = this.#view;
    this.#look(x - across / this.#size / scale, y - down / this.#size / scale, scale);
  }

  #wheel(event) {
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY / 400), this.#at(event));
  }

  #key(event) {
    const stride = this.#size / 8;
    const moves = {
      ArrowLeft: [stride, 0],
      ArrowRight: [-stride, 0],
      ArrowUp: [0, stride],
      ArrowDown: [0, -stride],
    };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (moves[event.key]) this.#shift(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key === "0") this.whole();
    else if (event.key.toLowerCase() === "n") this.#next(event.shiftKey ? -1 : 1);
    else if (event.key === "Enter" && this.#pointed) this.onChoose(this.#pointed);
    else return;
    event.preventDefault();
  }

  #next(direction) {
    const songs = [...this.#recommendations, ...this.#likes];
    if (!songs.length) return;
    this.#step = (this.#step + direction + songs.length + (this.#step < 0 && direction < 0 ? 1 : 0)) % songs.length;
    const song = songs[this.#step];
    this.#look(song.x, song.y, Math.max(this.#view.scale, 2));
    this.#point(song);
  }
}
