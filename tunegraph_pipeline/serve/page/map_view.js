// The section of the map. Here: its songs, its tip and its buttons. Not here: drawing (`map.js`).

import { Job, get } from "./api.js";
import { $, say } from "./dom.js";
import { SongMap } from "./map.js";
import { recommendations, showProblem } from "./recommendations.js";
import { forget, like, songOf, titleOf } from "./songs.js";
import { store } from "./store.js";

let announced = null;

export function startMap() {
  const map = new SongMap($("map"), (song) => showTip(map, song), (song) => {
    if (store.likes.includes(song.track_id)) forget(song);
    else like(song);
  });
  const show = () => {
    const liked = store.likes.map(songOf).filter((song) => song.x !== undefined);
    map.setSongs(liked, recommendations.items);
  };
  store.addEventListener("change", show);
  recommendations.addEventListener("answer", show);
  document.addEventListener("songs-learned", show);
  document.addEventListener("song-pointed", (event) => map.mark(event.detail));
  $("closer").addEventListener("click", () => map.zoom(1.5));
  $("farther").addEventListener("click", () => map.zoom(1 / 1.5));
  $("whole").addEventListener("click", () => map.whole());
  new Job(async () => map.setOthers((await get("map", { limit: 4000 })).points), showProblem).run();
}

function showTip(map, song) {
  const tip = $("tip");
  for (const one of document.querySelectorAll(".song.pointed")) one.classList.remove("pointed");
  tip.hidden = !song;
  if (!song) {
    announced = null;
    return;
  }
  tip.textContent = titleOf(song);
  const [left, top] = map.placeOf(song);
  const box = $("map").getBoundingClientRect();
  // Above the song, or below it if there is no room, and within the sides.
  tip.style.left = `${Math.min(Math.max(left - tip.offsetWidth / 2, 4), box.width - tip.offsetWidth - 4)}px`;
  tip.style.top = `${top - tip.offsetHeight > 20 ? top - tip.offsetHeight - 16 : top + 16}px`;
  for (const one of document.querySelectorAll(".song")) {
    one.classList.toggle("pointed", one.dataset.track === song.track_id);
  }
  if (song !== announced) say(titleOf(song));
  announced = song;
}
