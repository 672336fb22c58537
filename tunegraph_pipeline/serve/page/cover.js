// Covers. Here: the cover image of a song if it has one and it may be loaded, else one drawn from its id.

const SVG = "http://www.w3.org/2000/svg";

/** Pseudo-random numbers from 0 to 1, the same for the same text. */
function numbersOf(text) {
  let state = 2166136261;
  for (const letter of text) state = Math.imul(state ^ letter.codePointAt(0), 16777619);
  return () => {
    state = Math.imul(state ^ (state >>> 15), 2246822519) + 0x9e3779b9;
    return ((state ^ (state >>> 13)) >>> 0) / 2 ** 32;
  };
}

function drawn(id) {
  const next = numbersOf(id);
  const hue = Math.floor(next() * 360);
  const picture = document.createElementNS(SVG, "svg");
  const add = (name, attributes) => {
    const shape = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    picture.append(shape);
  };
  picture.setAttribute("viewBox", "0 0 60 60");
  picture.setAttribute("class", "cover");
  picture.setAttribute("aria-hidden", "true");
  add("rect", { width: 60, height: 60, fill: `hsl(${hue} 45% 32%)` });
  const x = 10 + next() * 40;
  const y = 10 + next() * 40;
  for (let ring = 4; ring > 0; ring -= 1) {
    const tone = (hue + 30 + ring * 14) % 360;
    add("circle", { cx: x, cy: y, r: ring * (6 + next() * 5), fill: `hsl(${tone} 55% ${72 - ring * 9}%)` });
  }
  return picture;
}

/** The cover of a song. `load`: whether images of other sites may be loaded. */
export function cover(song, load) {
  if (!load || !song.image_url?.startsWith("https://")) return drawn(song.track_id);
  const picture = document.createElement("img");
  picture.className = "cover";
  picture.alt = "";
  picture.loading = "lazy";
  picture.referrerPolicy = "no-referrer";
  picture.addEventListener("error", () => picture.replaceWith(drawn(song.track_id)), { once: true });
  picture.src = song.image_url;
  return picture;
}
