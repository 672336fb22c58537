// What a listener keeps: named lists of liked and disliked songs and artists, and options. Here: its form, reading
// it from any text, and merging what two tabs kept. Not here: storing it (`store.js`).
//
// A song of a list is [opinion, added, changed]: 1 liked, -1 not for me, 0 removed; the times are milliseconds.
// Removed songs stay for a while, so that a merge knows that they were removed. Whatever was changed last holds,
// which makes merging the same in any order.

export const LIKED = 1;
export const NOT_FOR_ME = -1;
export const FIRST_LIST = "first";

const VERSION = 2;
const FORGOTTEN = 40 * 86_400_000; // for how long a removed song or list is remembered
const LONGEST_NAME = 80;

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isTime = (value) => Number.isFinite(value) && value >= 0;

export function emptyList(name, time) {
  return { name, named: time, made: time, gone: 0, back: 0, songs: {}, artists: {} };
}

/** Whether a list is there: not removed, or brought back since. */
export function isThere(list) {
  return list !== undefined && list.gone <= list.back;
}

export function nothingKept() {
  return { v: VERSION, lists: { [FIRST_LIST]: emptyList("My songs", 0) }, options: {}, chosen: 0 };
}

function entries(given, extra) {
  const kept = {};
  if (!isObject(given)) return kept;
  for (const [id, entry] of Object.entries(given)) {
    if (!id || !Array.isArray(entry)) continue;
    const [opinion, added, changed, name] = entry;
    if (![LIKED, NOT_FOR_ME, 0].includes(opinion) || !isTime(added) || !isTime(changed)) continue;
    kept[id] = extra ? [opinion, added, changed, typeof name === "string" ? name : id] : [opinion, added, changed];
  }
  return kept;
}

/** A list name without needless spaces, "" if none is left. */
export function cleanName(name) {
  return typeof name === "string" ? name.replace(/\s+/g, " ").trim().slice(0, LONGEST_NAME) : "";
}

function ofVersion1(given) {
  // Until version 2 there was one list, in order, without times: any later change has a later one.
  const kept = nothingKept();
  const { songs } = kept.lists[FIRST_LIST];
  for (const [name, opinion] of [["dislikes", NOT_FOR_ME], ["likes", LIKED]]) {
    if (!Array.isArray(given[name])) continue;
    for (const [place, id] of given[name].entries()) {
      if (typeof id === "string" && id) songs[id] = [opinion, place + 1, 1];
    }
  }
  const { likes, dislikes, ...options } = given;
  kept.options = options;
  return kept;
}

/** What was kept, of whatever a browser or a file has under its name; what is not of the form is left out. */
export function cleaned(given) {
  if (!isObject(given)) return nothingKept();
  if (given.v !== VERSION) return ofVersion1(given);
  const kept = nothingKept();
  for (const [id, list] of Object.entries(isObject(given.lists) ? given.lists : {})) {
    if (!isObject(list)) continue;
    kept.lists[id] = {
      name: cleanName(list.name) || "Songs",
      named: isTime(list.named) ? list.named : 0,
      made: isTime(list.made) ? list.made : 0,
      gone: isTime(list.gone) ? list.gone : 0,
      back: isTime(list.back) ? list.back : 0,
      songs: entries(list.songs, false),
      artists: entries(list.artists, true),
    };
  }
  if (isObject(given.options)) kept.options = { ...given.options };
  if (isTime(given.chosen)) kept.chosen = given.chosen;
  return kept;
}

function mergedEntries(one, other) {
  const both = { ...one };
  for (const [id, entry] of Object.entries(other)) {
    const mine = both[id];
    // At the same time the like is kept.
    if (!mine || entry[2] > mine[2] || (entry[2] === mine[2] && entry[0] > mine[0])) both[id] = entry;
  }
  return both;
}

/** Both, as if one had made all changes of the two. */
export function merged(one, other) {
  const both = { ...(other.chosen > one.chosen ? other : one), lists: { ...one.lists } };
  for (const [id, list] of Object.entries(other.lists)) {
    const mine = both.lists[id];
    if (!mine) {
      both.lists[id] = list;
      continue;
    }
    const named = list.named > mine.named ? list : mine;
    both.lists[id] = {
      name: named.name,
      named: named.named,
      made: Math.min(mine.made, list.made),
      gone: Math.max(mine.gone, list.gone),
      back: Math.max(mine.back, list.back),
      songs: mergedEntries(mine.songs, list.songs),
      artists: mergedEntries(mine.artists, list.artists),
    };
  }
  return both;
}

/** Whether two values of JSON are the same, in whatever order their keys are. */
export function equal(one, other) {
  if (Object.is(one, other)) return true;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return false;
  if (Array.isArray(one) !== Array.isArray(other)) return false;
  const names = Object.keys(one);
  return (
    names.length === Object.keys(other).length &&
    names.every((name) => Object.hasOwn(other, name) && equal(one[name], other[name]))
  );
}

/** Without what was removed long ago. */
export function pruned(kept, time) {
  const recent = (removed) => time - removed < FORGOTTEN;
  const some = (all) => Object.fromEntries(Object.entries(all).filter(([, one]) => one[0] !== 0 || recent(one[2])));
  const lists = {};
  for (const [id, list] of Object.entries(kept.lists)) {
    if (!isThere(list) && !recent(list.gone) && id !== FIRST_LIST) continue;
    lists[id] = { ...list, songs: some(list.songs), artists: some(list.artists) };
  }
  return { ...kept, lists };
}

/** The ids of one opinion in an entry of a list, `songs` or `artists`, the newest last. */
export function ofOpinion(all, opinion) {
  return Object.entries(all)
    .filter(([, entry]) => entry[0] === opinion)
    .sort(([, one], [, other]) => one[1] - other[1])
    .map(([id]) => id);
}
