// The map of the songs. Here: drawing it, moving about in it, and which song is pointed at. Not here: what is on it.

const REACH = 14; // pixels around a song in which it is pointed at
const CLOSEST = 60;

/** Songs drawn on a canvas by their x and y in [0, 1]. `onPoint(song)` is told what is pointed at, or null; `onChoose(song)` what was clicked. */
export class SongMap {
  #context;
  #size = 0;
  #view = { x: 0.5, y: 0.5, scale: 1 };
  #others = [];
  #likes = [];
  #recommendations = [];
  #pointed = null;
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

  /** The songs that matter; the view moves only if somebody asks for it. */
  setSongs(likes, recommendations) {
    this.#likes = likes;
    this.#recommendations = recommendations;
    this.#step = -1;
    this.#paint();
  }

  /** Mark a song, wherever it was pointed at; null for none. */
  mark(song) {
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
    return this.#place(song);
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
    const edge = 0.5 / scale;
    const within = (value) => Math.min(1 - edge, Math.max(edge, value));
    this.#view = { x: within(x), y: within(y), scale };
    this.#paint();
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
    for (const name of ["others", "liked", "accent", "card", "on-accent", "text"]) {
      this.#colours[name] = style.getPropertyValue(`--${name}`).trim();
    }
    const paper = this.#context;
    paper.clearRect(0, 0, this.#size, this.#size);
    const closer = Math.sqrt(this.#view.scale);
    paper.fillStyle = this.#colours.others;
    paper.globalAlpha = 0.6;
    for (const song of this.#others) this.#dot(song, Math.min(4, 1.4 * closer));
    paper.globalAlpha = 1;
    for (const song of this.#likes) this.#dot(song, 6, this.#colours.liked);
    paper.font = "600 10px system-ui, sans-serif";
    paper.textAlign = "center";
    paper.textBaseline = "middle";
    // From the last to the first, so that the best lies on top.
    for (let rank = this.#recommendations.length; rank > 0; rank -= 1) {
      const song = this.#recommendations[rank - 1];
      this.#dot(song, 8, this.#colours.accent);
      paper.fillStyle = this.#colours["on-accent"];
      const [left, top] = this.#place(song);
      paper.fillText(String(rank), left, top + 0.5);
    }
    if (this.#pointed) {
      const [left, top] = this.#place(this.#pointed);
      paper.beginPath();
      paper.arc(left, top, 12, 0, 2 * Math.PI);
      paper.strokeStyle = this.#colours.text;
      paper.lineWidth = 2;
      paper.stroke();
    }
  }

  #dot(song, radius, colour) {
    const [left, top] = this.#place(song);
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
    // What matters is found first, and wins over the background at the same distance.
    for (const song of [...this.#recommendations, ...this.#likes, ...this.#others]) {
      const [left, top] = this.#place(song);
      const away = Math.hypot(left - at[0], top - at[1]);
      if (away < distance) [best, distance] = [song, away];
    }
    return best;
  }

  #point(song) {
    if (song === this.#pointed) return;
    this.mark(song);
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
