// A list of songs as a file or text. Here: the formats. Not here: saving them (`save_sheet.js`).

const SPOTIFY = /^(?:https:\/\/open\.spotify\.com\/track\/|spotify:track:)?([A-Za-z0-9]{22})$/;
const RECORDING = /^(?:https:\/\/musicbrainz\.org\/recording\/)?([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})$/;

function idOf(pattern, song, service) {
  for (const text of [song.links?.[service], song.link, song.track_id]) {
    const found = text?.match(pattern);
    if (found) return found[1];
  }
  return null;
}

/** The song's id in Spotify, null if unknown. */
export const spotifyId = (song) => idOf(SPOTIFY, song, "spotify");

/** Its recording in MusicBrainz. */
export const recordingId = (song) => idOf(RECORDING, song, "musicbrainz");

const title = (song) => song.name || song.track_id;
const oneLine = (text) => text.replace(/\s+/g, " ").trim();

/** JSPF as ListenBrainz and other players read it. */
export function jspf(name, songs) {
  const track = songs.map((song) => {
    const recording = recordingId(song);
    const page = recording ? `https://musicbrainz.org/recording/${recording}` : song.link;
    return {
      title: title(song),
      ...(song.artists && { creator: song.artists }),
      ...(page && { identifier: [page] }),
      ...(song.preview_url && { location: [song.preview_url] }),
    };
  });
  return { playlist: { title: name, track } };
}

/** An extended M3U of previews, or else pages; songs without either are left out. */
export function m3u(name, songs) {
  const lines = ["#EXTM3U", `#PLAYLIST:${oneLine(name)}`];
  for (const song of songs) {
    const address = [song.preview_url, song.link].find((one) => one && /^https?:\/\/\S+$/.test(one));
    if (!address) continue;
    lines.push(`#EXTINF:-1,${oneLine([song.artists, title(song)].filter(Boolean).join(" - "))}`, address);
  }
  return `${lines.join("\n")}\n`;
}

function cell(value) {
  let text = String(value ?? "");
  // A spreadsheet would compute what begins with one of these.
  if (/^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csv(songs) {
  const rows = [["track_id", "name", "artists", "year", "link"]];
  for (const song of songs) rows.push([song.track_id, song.name, song.artists, song.year, song.link]);
  return `${rows.map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
}

/** One Spotify URI a line, which Spotify's own program takes from the clipboard. */
export function uris(songs) {
  return songs.map(spotifyId).filter(Boolean).map((id) => `spotify:track:${id}\n`).join("");
}

/** "Artist - Title" a line. */
export function plain(songs) {
  return songs.map((song) => `${oneLine([song.artists, title(song)].filter(Boolean).join(" - "))}\n`).join("");
}
