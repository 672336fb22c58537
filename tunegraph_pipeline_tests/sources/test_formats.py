"""Every format that can be imported, by a small file of each: its format, and who likes and dislikes what."""
# ruff: noqa: E501  (headers are as long as exporters write them)

import io
import json
import plistlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.columns import count_known
from tunegraph_pipeline.sources.files import import_files
from tunegraph_pipeline.sources.formats import FORMATS

LANTERNS, QUIST = "name:the lanterns/intro", "name:ida quist/paper moons"
A, B = "1aaaaaaaaaaaaaaaaaaaaa", "2bbbbbbbbbbbbbbbbbbbbb"
MBID, MBID2 = "11111111-1111-4111-8111-111111111111", "22222222-1111-4111-8111-111111111111"


@dataclass(frozen=True)
class Case:
    """A file, the options it is imported with, and what it has to become: user -> songs."""

    format: str
    content: str | bytes
    likes: Mapping[str, set[str]]
    dislikes: Mapping[str, set[str]] = field(default_factory=dict)
    name: str = "given.csv"
    options: Mapping[str, Any] = field(default_factory=dict)


def _parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pl.DataFrame(columns).write_parquet(sink)
    return sink.getvalue()


def _zip(**files: str | bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return sink.getvalue()


def _xlsx(**sheets: list[list[Any]]) -> bytes:
    """A spreadsheet, written by hand: polars needs another package for it."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as book:
        book.writestr(
            "[Content_Types].xml",
            '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            '<Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml" '
            'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/></Types>',
        )
        relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
        package = "http://schemas.openxmlformats.org/package/2006/relationships"
        main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
        book.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}"><Relationship Id="r1" Type="{relation}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
        )
        names = list(sheets)
        book.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{relation}"><sheets>'
            + "".join(f'<sheet name="{n}" sheetId="{i + 1}" r:id="s{i}"/>' for i, n in enumerate(names))
            + "</sheets></workbook>",
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}">'
            + "".join(
                f'<Relationship Id="s{i}" Type="{relation}/worksheet" Target="worksheets/s{i}.xml"/>'
                for i in range(len(names))
            )
            + "</Relationships>",
        )
        for i, rows in enumerate(sheets.values()):
            cells = "".join(
                "<row>" + "".join(f'<c t="inlineStr"><is><t>{cell}</t></is></c>' for cell in row) + "</row>"
                for row in rows
            )
            book.writestr(
                f"xl/worksheets/s{i}.xml",
                f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>',
            )
    return sink.getvalue()


_LISTEN = {
    "listened_at": 1_700_000_000,
    "track_metadata": {
        "artist_name": "The Lanterns",
        "track_name": "Intro",
        "mbid_mapping": {"recording_mbid": MBID},
    },
}
_SONG = {
    "name": "Intro",
    "artists": [{"name": "The Lanterns", "id": "ar1"}],
    "id": A,
    "uri": f"spotify:track:{A}",
}
_ONCE = {"min_plays": 1}
_EXPORTIFY_LANGUAGES = """\
Track-URI,Track-Name,Künstlername(n),Hinzugefügt am
URI du titre,Nom du titre,Nom(s) de l'artiste,Ajouté le
URI de la canción,Nombre de la canción,Nombre(s) del artista,Añadido en
URI della traccia,Nome della traccia,Nome dell'artista,Aggiunto il
URI da faixa,Nome da faixa,Nome(s) do artista,Adicionado em
Nummer URI,Nummernaam,Naam van artiest,Toegevoegd op
Låtens URI,Låtens namn,Artistens namn,Tillagd vid
Parça URI,Parça Adı,Sanatçı Adı,Eklenme Tarihi
URI κομματιού,Όνομα κομματιού,Όνομα/τα καλλιτέχνη,Προστέθηκε στις
رابط الأغنية (URI),اسم الأغنية,أسماء الفنانين,أضيف في
トラックURI,トラック名,アーティスト名,追加日時
曲目 URI,曲目名称,艺人名称,添加时间
曲目 URI,曲目名稱,藝人名稱,新增時間
歌 Link,歌名,Artist 名,加入時間""".splitlines()

CASES = [
    # --- Spotify ---
    Case(
        "spotify-export",
        json.dumps(
            {"tracks": [{"artist": "x", "track": "y", "uri": f"spotify:track:{A}"}], "bannedTracks": []}
        ),
        {"me": {A}},
        name="YourLibrary.json",
    ),
    Case(
        "spotify-api",
        json.dumps({"items": [{"added_at": "2024-01-01T00:00:00Z", "track": _SONG}]}),
        {"me": {A}},
    ),
    Case("spotify-api", json.dumps([{"added_at": "2024-01-01T00:00:00Z", "track": _SONG}]), {"me": {A}}),
    Case("spotify-api", json.dumps({"tracks": {"items": [{"track": _SONG}, {"track": None}]}}), {"me": {A}}),
    Case(
        "exportify",
        '"Spotify URI","Track Name","Artist Name","Album Name","Disc Number","Track Number","Track Duration (ms)",'
        f'"Added By","Added At"\n"spotify:track:{A}","Intro","The Lanterns","Tides","1","1","1000","x",'
        '"2019-01-01T00:00:00Z"\n',
        {"me": {A}},
    ),
    Case(
        "exportify",
        '"Name","Track URI","Track Name","Artist URI(s)","Artist Name(s)","Added By","Added At"\n'
        f'"Liked","spotify:track:{A}","Intro","spotify:artist:a","The Lanterns","","2022-01-01T00:00:00Z"\n',
        {"me": {A}},
    ),
    *(
        Case(
            "exportify", f"{header}\nspotify:track:{A},Intro,The Lanterns,2022-01-01T00:00:00Z\n", {"me": {A}}
        )
        for header in _EXPORTIFY_LANGUAGES
    ),
    # --- YouTube ---
    Case(
        "youtube-takeout",
        "Video ID,Playlist Video Creation Timestamp\naAaAaAaAaA1,2024-03-01T10:00:00+00:00\n"
        " -yGI2uFaacY,2024-03-02T10:00:00+00:00\n\n\n",
        {"me": {"youtube:aAaAaAaAaA1", "youtube:-yGI2uFaacY"}},
        name="Liked videos.csv",
    ),
    Case(
        "youtube-takeout",
        "Playlist Id,Channel Id,Time Created,Time Updated,Title,Description,Visibility\n"
        "LL1,UC1,2015-01-01 00:00:00 UTC,2015-01-01 00:00:00 UTC,Liked videos,,Private\n\n"
        "Video Id,Time Added\ndQw4w9WgXcQ,2021-05-01 12:00:00 UTC\n",
        {"me": {"youtube:dQw4w9WgXcQ"}},
    ),
    Case(
        "youtube-takeout",
        "ID do vídeo,Carimbo de data/hora da criação do vídeo da playlist\ndQw4w9WgXcQ,2021-05-01T12:00:00+00:00\n",
        {"me": {"youtube:dQw4w9WgXcQ"}},
    ),
    Case(
        "youtube-takeout",
        "Video-ID,Zeitstempel der Erstellung des Playlist-Videos\ndQw4w9WgXcQ,2021-05-01T12:00:00+00:00\n",
        {"me": {"youtube:dQw4w9WgXcQ"}},
    ),
    Case(
        "youtube-takeout",
        "Video ID,Song Title,Album Title,Artist Name 1,Artist Name 2\ndQw4w9WgXcQ,Intro,Tides,The Lanterns,\n",
        {"me": {"youtube:dQw4w9WgXcQ"}},
        name="music library songs.csv",
    ),
    Case(
        "list",
        "Song URL,Song Title,Album Title,Artist Names\n"
        "https://music.youtube.com/watch?v=dQw4w9WgXcQ,Intro,Tides,The Lanterns\n",
        {"me": {"youtube:dQw4w9WgXcQ"}},
        name="music-library-songs.csv",
        options={"user_id": "me"},
    ),
    Case(
        "youtube-history",
        json.dumps(
            [
                {
                    "header": "YouTube Music",
                    "title": "Watched Intro",
                    "titleUrl": "https://music.youtube.com/watch?v\u003ddQw4w9WgXcQ",
                    "subtitles": [{"name": "The Lanterns - Topic"}],
                    "time": "2023-06-04T04:07:59.107Z",
                },
                {
                    "header": "YouTube",
                    "title": "Watched a film",
                    "titleUrl": "https://www.youtube.com/watch?v=xxxxxxxxxxx",
                },
                {"header": "YouTube Music", "title": "Watched a video that has been removed"},
            ]
        ),
        {"me": {"youtube:dQw4w9WgXcQ"}},
        name="watch-history.json",
        options=_ONCE,
    ),
    # --- Apple ---
    Case(
        "apple-likes",
        "Item Description,Preference,Created,Last Modified,Item Reference\n"
        '"The Lanterns - Intro",LOVE,2020-01-01T00:00:00Z,2020-01-01T00:00:00Z,182889262\n'
        '"Ida Quist - Paper Moons",DISLIKE,2020-01-01T00:00:00Z,2020-01-01T00:00:00Z,\n',
        {"me": {"apple:182889262"}},
        {"me": {QUIST}},
    ),
    Case(
        "apple-likes",
        '"Favorite Type","Item Reference","Item Description","Last Modified",Preference\n'
        'Song,1817499892,"The Lanterns - Intro",2026-03-17T20:29:44Z,LIKE\n'
        'Artist,5,"The Lanterns",2026-03-17T20:29:44Z,LIKE\nSong,6,"X - Y",2026-03-17T20:29:44Z,NEUTRAL\n',
        {"me": {"apple:1817499892"}},
    ),
    Case(
        "apple-library",
        json.dumps(
            [
                {
                    "Content Type": "song",
                    "Track Identifier": 1,
                    "Title": "Intro",
                    "Artist": "The Lanterns",
                    "Apple Music Track Identifier": 77,
                    "Track Like Rating": "liked",
                },
                {
                    "Content Type": "song",
                    "Track Identifier": 2,
                    "Title": "Paper Moons",
                    "Artist": "Ida Quist",
                    "Track Like Rating": "disliked",
                },
                {
                    "Content Type": "song",
                    "Track Identifier": 3,
                    "Title": "Other",
                    "Artist": "Ida Quist",
                    "Track Like Rating": "none",
                },
            ]
        ),
        {"me": {"apple:77"}},
        {"me": {QUIST}},
    ),
    Case(
        "apple-library",
        json.dumps(
            [{"Content Type": "song", "Track Identifier": 1, "Title": "Intro", "Artist": "The Lanterns"}]
        ),
        {"me": {LANTERNS}},
    ),
    Case(
        "apple-daily-tracks",
        "Country,Track Identifier,Media type,Date Played,Hours,Play Duration Milliseconds,End Reason Type,Source Type,"
        "Play Count,Skip Count,Track Description\n"
        "US,77,AUDIO,20230101,18,200000,NATURAL_END_OF_TRACK,IPHONE,3,0,The Lanterns - Intro\n"
        "US,78,AUDIO,20230102,18,200000,NATURAL_END_OF_TRACK,IPHONE,1,0,Ida Quist - Paper Moons\n",
        {"me": {"apple:77"}},
        options={"min_plays": 3},
    ),
    Case(
        "apple-track-plays",
        "Track Name,Last Played Date,Is User Initiated\nThe Lanterns - Intro,1672531200000,true\n",
        {"me": {LANTERNS}},
        options=_ONCE,
    ),
    Case(
        "apple-plays",
        "Artist Name,Song Name,Event Start Timestamp,Play Duration Milliseconds\n"
        "The Lanterns,Intro,2020-01-01T00:00:00Z,200000\nIda Quist,Paper Moons,2020-01-01T00:10:00Z,1000\n",
        {"me": {LANTERNS}},
        options=_ONCE,
    ),
    *(
        Case(
            "itunes-xml",
            plistlib.dumps(
                {
                    "Tracks": {
                        "1": {"Name": "Intro", "Artist": "The Lanterns", "Loved": True, "Kind": "MPEG"},
                        "2": {"Name": "Paper Moons", "Artist": "Ida Quist", "Disliked": True},
                        "3": {"Name": "Stars", "Artist": "Ida Quist", "Rating": 100},
                        "4": {"Name": "Few stars", "Artist": "Ida Quist", "Rating": 20},
                        "5": {
                            "Name": "Computed",
                            "Artist": "Ida Quist",
                            "Rating": 100,
                            "Rating Computed": True,
                        },
                        "6": {"Name": "Talk", "Artist": "Ida Quist", "Podcast": True, "Loved": True},
                    }
                },
                fmt=kind,
            ),
            {"me": {LANTERNS, "name:ida quist/stars"}},
            {"me": {QUIST}},
            name="Library.xml",
        )
        for kind in (plistlib.FMT_XML, plistlib.FMT_BINARY)
    ),
    Case(
        "itunes-text",
        "Name\tArtist\tComposer\tAlbum\tKind\tBit Rate\tDate Added\tPlays\tMy Rating\tLocation\n"
        "Intro\tThe Lanterns\t\tTides\tMPEG\t320\t2/18/17, 5:31 PM\t9\t100\tC:\\a.mp3\n"
        "Paper Moons\tIda Quist\t\tPaper\tMPEG\t320\t2/18/17, 5:31 PM\t9\t20\tC:\\b.mp3\n".encode("utf-16"),
        {"me": {LANTERNS}},
        name="Music.txt",
    ),
    # --- Deezer and Tidal ---
    Case(
        "deezer-export",
        _xlsx(
            **{
                "4_favoriteArtist": [["Artist", "Link"], ["The Lanterns", "x"]],
                "8_favoriteSong": [
                    ["Song Title", "Artists", "Album Title", "ISRC"],
                    ["Intro", "The Lanterns", "T", ""],
                ],
            }
        ),
        {"me": {LANTERNS}},
        name="deezer-data_1.xlsx",
    ),
    Case(
        "deezer-dislikes",
        _xlsx(**{"9_dislikedTracks": [["Song Title", "Artist", "ISRC"], ["X", "Y", "QZAAA2000001"]]}),
        {},
        {"me": {"isrc:QZAAA2000001"}},
        name="deezer-data_1.xlsx",
    ),
    Case(
        "deezer-plays",
        _xlsx(
            **{
                "10_listeningHistory": [
                    [
                        "Song Title",
                        "Artist",
                        "ISRC",
                        "Album Title",
                        "IP Address",
                        "Listening Time",
                        "Platform Name",
                        "Date",
                    ],
                    [
                        "Intro",
                        "The Lanterns",
                        "QZAAA2000001",
                        "T",
                        "1.2.3.4",
                        "200",
                        "web",
                        "2024-01-01 10:00:00",
                    ],
                ]
            }
        ),
        {"me": {"isrc:QZAAA2000001"}},
        name="deezer-data_1.xlsx",
        options=_ONCE,
    ),
    Case(
        "tidal-plays",
        "artist_name,track_title,entry_date,stream_duration_ms,product_type,ip_address,country_name,time_zone\n"
        "The Lanterns,Intro,25/12/2023 9:05,200000.0,TRACK,1.2.3.4,DE,null\n",
        {"me": {LANTERNS}},
        options=_ONCE,
    ),
    # --- Last.fm and other logs ---
    Case(
        "lastfmstats",
        '\ufeffArtist;Album;AlbumId;Track;Date#ann\n"The Lanterns";"Tides";"";"Intro";"1609459200000"\n',
        {"me": {LANTERNS}},
        options=_ONCE,
    ),
    Case(
        "lastfmstats",
        json.dumps(
            {
                "username": "ann",
                "scrobbles": [{"track": "Intro", "artist": "The Lanterns", "date": 1_700_000_000_000}],
            }
        ),
        {"me": {LANTERNS}},
        options=_ONCE,
    ),
    Case(
        "lastfm-plays",
        "uts,utc_time,artist,artist_mbid,album,album_mbid,track,track_mbid\n"
        f'"1700000000","14 Nov 2023, 22:13","The Lanterns","","Tides","","Intro","{MBID}"\n',
        {"me": {MBID}},
        name="recenttracks-ann-1.csv",
        options=_ONCE,
    ),
    Case(
        "lastfm-loved",
        "uts,utc_time,artist,artist_mbid,track,track_mbid\n"
        '"1700000000","14 Nov 2023, 22:13","The Lanterns","","Intro",""\n',
        {"me": {LANTERNS}},
        name="lovedtracks-ann-1.csv",
    ),
    Case(
        "lastfm-loved",
        json.dumps(
            {
                "lovedtracks": {
                    "track": [
                        {
                            "artist": {"url": "x", "name": "The Lanterns", "mbid": ""},
                            "date": {"uts": "1674069909"},
                            "mbid": "",
                            "name": "Intro",
                        }
                    ],
                    "@attr": {"user": "ann"},
                }
            }
        ),
        {"me": {LANTERNS}},
    ),
    Case(
        "lastfm-plays",
        json.dumps(
            [
                {
                    "track": [
                        {
                            "artist": {"mbid": "", "#text": "The Lanterns"},
                            "name": "Intro",
                            "mbid": "",
                            "album": {"#text": "T"},
                            "date": {"uts": "1674069909"},
                        }
                    ]
                }
            ]
        ),
        {"me": {LANTERNS}},
        options=_ONCE,
    ),
    Case(
        "lastfm-loved",
        '<?xml version="1.0"?><lfm status="ok"><lovedtracks user="ann"><track><name>Intro</name><mbid/>'
        '<date uts="1674069909">x</date><artist><name>The Lanterns</name><mbid/></artist></track></lovedtracks></lfm>',
        {"me": {LANTERNS}},
    ),
    Case(
        "lastfm-archive-loved",
        "ISO time\tunixtime\ttrack\ttrack mbid\tartist\tartist mbid\n"
        "2012-01-01T00:00:00\t1325376000\tIntro\t\tThe Lanterns\t\n",
        {"me": {LANTERNS}},
        name="loved.tsv",
    ),
    Case(
        "lastfm-archive",
        "ISO time\tunixtime\ttrack\ttrack mbid\tartist\tartist mbid\n"
        "2012-01-01T00:00:00\t1325376000\tIntro\t\tThe Lanterns\t\n",
        {"me": {LANTERNS}},
        name="scrobbles.tsv",
        options=_ONCE,
    ),
    Case(
        "lastfm-to-csv",
        "The Lanterns,Tides,Intro,31 Jan 2021 23:36\nIda Quist,Paper,Paper Moons,31 Jan 2021 23:32\n",
        {"me": {LANTERNS, QUIST}},
        options=_ONCE,
    ),
    Case(
        "scrobbler-log",
        "#AUDIOSCROBBLER/1.1\n#TZ/UNKNOWN\n#CLIENT/Rockbox x\n"
        f"The Lanterns\tTides\tIntro\t1\t200\tL\t1700000000\t{MBID}\nIda Quist\tPaper\tPaper Moons\t1\t200\tS\t1700000300\t\n",
        {"me": {MBID}},
        name=".scrobbler.log",
        options=_ONCE,
    ),
    Case(
        "listenbrainz-feedback",
        f'{{"created": 1680000000, "score": 1, "recording_mbid": "{MBID}", "recording_msid": null}}\n'
        f'{{"created": 1680000100, "score": -1, "recording_mbid": "{MBID2}", "recording_msid": null}}\n',
        {"me": {MBID}},
        {"me": {MBID2}},
        name="feedback.jsonl",
    ),
    Case(
        "listenbrainz-feedback",
        json.dumps(
            {"count": 1, "feedback": [{"created": 1, "recording_mbid": MBID, "score": 1, "user_id": "ann"}]}
        ),
        {"me": {MBID}},
    ),
    Case(
        "listenbrainz-feedback",
        _zip(
            user__json='{"user_id": 1, "username": "ann"}',
            **{
                "feedback.jsonl": '{"recording_msid": "m1", "recording_mbid": null, "score": 1, "created": 1700000000}\n',
                "listens__2023__11.jsonl": json.dumps(
                    {
                        "listened_at": 1,
                        "track_metadata": {
                            "artist_name": "The Lanterns",
                            "track_name": "Intro",
                            "recording_msid": "m1",
                        },
                    }
                ),
            },
        ),
        {"me": {LANTERNS}},
        name="listenbrainz_ann.zip",
    ),
    Case(
        "listenbrainz-plays", f"{json.dumps(_LISTEN)}\n{json.dumps(_LISTEN)}\n", {"me": {MBID}}, options=_ONCE
    ),
    Case("listenbrainz-plays", json.dumps([_LISTEN]), {"me": {MBID}}, options=_ONCE),
    Case(
        "maloja",
        json.dumps(
            {
                "maloja": {"export_time": 1},
                "scrobbles": [
                    {"time": 1_700_000_000, "track": {"artists": ["The Lanterns"], "title": "Intro"}}
                ],
            }
        ),
        {"me": {LANTERNS}},
        options=_ONCE,
    ),
    Case(
        "panoscrobbler",
        json.dumps(
            {
                "timeMs": 1_700_000_000_000,
                "artist": "The Lanterns",
                "track": "Intro",
                "album": "T",
                "mediaPlayerPackage": "x",
                "event": "scrobble",
            }
        ),
        {"me": {LANTERNS}},
        options=_ONCE,
    ),
    Case(
        "shazam",
        "Shazam Library\nIndex,TagTime,Title,Artist,URL,TrackKey\n"
        '1,2023-05-25,"Intro","The Lanterns",https://www.shazam.com/track/612980416/intro,612980416\n',
        {"me": {LANTERNS}},
        name="shazamlibrary.csv",
    ),
    Case(
        "lastfm-banned",
        '<lfm status="ok"><bannedtracks user="ann"><track><name>Intro</name><artist><name>The Lanterns</name></artist>'
        "</track></bannedtracks></lfm>",
        {},
        {"me": {LANTERNS}},
    ),
    Case(
        "spotify-plays",
        json.dumps(
            [
                {
                    "ts": "2024-01-01T00:00:00Z",
                    "username": "ann",
                    "ms_played": 40_000,
                    "spotify_track_uri": f"spotify:track:{A}",
                },
                {
                    "ts": "2024-01-02T00:00:00Z",
                    "username": "ann",
                    "ms_played": 100,
                    "spotify_track_uri": f"spotify:track:{B}",
                },
            ]
        ),
        {"me": {A}},
        name="history.json",
        options=_ONCE,
    ),
    Case(
        "youtube-api",
        json.dumps(
            {
                "items": [
                    {
                        "kind": "youtube#playlistItem",
                        "id": "row",
                        "snippet": {"resourceId": {"videoId": "dQw4w9WgXcQ"}},
                    }
                ]
            }
        ),
        {"me": {"youtube:dQw4w9WgXcQ"}},
    ),
    Case(
        "youtube-api",
        json.dumps(
            {
                "id": "LM",
                "tracks": [
                    {
                        "videoId": "dQw4w9WgXcQ",
                        "title": "x",
                        "artists": [{"name": "y"}],
                        "likeStatus": "LIKE",
                        "duration": "3:20",
                    },
                    {
                        "videoId": "aAaAaAaAaA1",
                        "title": "x",
                        "artists": [{"name": "y"}],
                        "likeStatus": "DISLIKE",
                    },
                    {
                        "videoId": "bBbBbBbBbB1",
                        "title": "x",
                        "artists": [{"name": "y"}],
                        "likeStatus": "INDIFFERENT",
                    },
                ],
            }
        ),
        {"me": {"youtube:dQw4w9WgXcQ"}},
        {"me": {"youtube:aAaAaAaAaA1"}},
    ),
    # --- servers and programs ---
    Case(
        "subsonic",
        json.dumps(
            {
                "subsonic-response": {
                    "status": "ok",
                    "starred2": {
                        "song": [
                            {
                                "id": "x",
                                "title": "Intro",
                                "artist": "The Lanterns",
                                "starred": "2025-11-05T10:20:30Z",
                            }
                        ],
                        "album": [{"id": "y", "name": "Tides"}],
                    },
                }
            }
        ),
        {"me": {LANTERNS}},
    ),
    Case(
        "jellyfin",
        json.dumps(
            {
                "Items": [
                    {
                        "Name": "Intro",
                        "Id": "1",
                        "Type": "Audio",
                        "Artists": ["The Lanterns"],
                        "UserData": {"IsFavorite": True},
                    },
                    {
                        "Name": "Paper Moons",
                        "Id": "2",
                        "Type": "Audio",
                        "Artists": ["Ida Quist"],
                        "UserData": {"Likes": False},
                    },
                    {
                        "Name": "Other",
                        "Id": "3",
                        "Type": "Audio",
                        "Artists": ["Ida Quist"],
                        "UserData": {"IsFavorite": False},
                    },
                ],
                "TotalRecordCount": 3,
            }
        ),
        {"me": {LANTERNS}},
        {"me": {QUIST}},
    ),
    Case(
        "tunemymusic",
        "Track name,Artist name,Album,Playlist name,Type,ISRC,Spotify - id\n"
        f"Intro,The Lanterns,Tides,Favorite Songs,Favorite,QZAAA2000001,{A}\n"
        "Paper Moons,Ida Quist,Paper,Road Trip,Playlist,,\nIda Quist,,,Favorite Artists,Artist,,\n",
        {"me": {A, QUIST}},
    ),
    Case(
        "soundiiz",
        "\ufefftitle;artist;album;isrc\nIntro;The Lanterns;Tides;QZAAA2000001\nPaper Moons;Ida Quist;Paper;\n",
        {"me": {"isrc:QZAAA2000001", QUIST}},
    ),
    Case(
        "beets",
        f"title,artist,album,mb_trackid,length\nIntro,The Lanterns,Tides,{MBID},200.5\n",
        {"me": {MBID}},
    ),
    Case(
        "rhythmbox",
        '<?xml version="1.0"?><rhythmdb version="2.0"><entry type="song"><title>Intro</title><artist>The Lanterns</artist>'
        '<rating>5</rating></entry><entry type="song"><title>Paper Moons</title><artist>Ida Quist</artist></entry>'
        '<entry type="iradio"><title>Radio</title></entry></rhythmdb>',
        {"me": {LANTERNS}},
    ),
    Case(
        "jspf",
        json.dumps(
            {
                "playlist": {
                    "title": "Mix",
                    "track": [
                        {
                            "title": "Intro",
                            "creator": "The Lanterns",
                            "identifier": f"https://musicbrainz.org/recording/{MBID}",
                        }
                    ],
                }
            }
        ),
        {"me": {MBID}},
    ),
    Case(
        "xspf",
        '<?xml version="1.0"?><playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList><track>'
        "<location>file:///a.mp3</location><title>Intro</title><creator>The Lanterns</creator></track></trackList></playlist>",
        {"me": {LANTERNS}},
    ),
    Case(
        "m3u", "#EXTM3U\n#EXTINF:200,The Lanterns - Intro\n/music/a.mp3\n", {"me": {LANTERNS}}, name="a.m3u8"
    ),
    Case(
        "links", f"https://open.spotify.com/track/{A}\nspotify:track:{B}\n", {"me": {A, B}}, name="likes.txt"
    ),
    Case("links", f"track_uri\nspotify:track:{A}\n", {"me": {A}}),
    Case("links", json.dumps({"liked": [f"spotify:track:{A}"]}), {"me": {A}}),
    # --- data sets ---
    Case(
        "mpd",
        json.dumps(
            {
                "playlists": [
                    {"pid": 5, "tracks": [{"track_uri": f"spotify:track:{A}", "track_name": "Intro"}]}
                ]
            }
        ),
        {"5": {A}},
    ),
    Case("hetrec", "userID\tartistID\tweight\n2\t51\t13883\n", {"2": {"51"}}),
    Case(
        "lastfm1k",
        "user_000001\t2009-05-04T23:08:57Z\tart-1\tDeep Dish\ttrk-1\tSong\n",
        {"user_000001": {"trk-1"}},
    ),
    Case(
        "lastfm360k",
        f"{'0' * 39}1\t{MBID}\tThe Lanterns\t12\n{'0' * 39}1\t\tNobody\t2\n",
        {"0" * 39 + "1": {MBID}},
        name="usersha1-artmbid-artname-plays.tsv",
    ),
    Case(
        "taste-profile",
        f"{'b8' * 20}\tSOAKIMP12A8C130995\t1\n{'b8' * 20}\tSOAPDEY12A81C210A9\t2\n",
        {"b8" * 20: {"SOAKIMP12A8C130995", "SOAPDEY12A81C210A9"}},
        name="train_triplets.txt",
    ),
    Case("lfm1b", "1\t2\t3\t4\t1385212958\n1\t2\t3\t4\t1385212959\n", {"1": {"4"}}, name="LFM-1b_LEs.txt"),
    Case("movielens", "1::1193::5::978300760\n1::661::3::978302109\n", {"1": {"1193"}}, name="ratings.dat"),
    Case("movielens", "196\t242\t3\t881250949\n186\t302\t4\t891717742\n", {"186": {"302"}}, name="u.data"),
    Case(
        "movielens", "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,3,0.5,964981247\n", {"1": {"1"}}
    ),
    Case(
        "kkbox",
        "msno,song_id,source_system_tab,source_screen_name,source_type,target\nu1=,s1=,explore,Explore,online,1\n"
        "u2=,s1=,explore,Explore,online,0\n",
        {"u1=": {"s1="}},
    ),
    Case(
        "yambda",
        _parquet(
            uid=[1, 1, 1, 2],
            item_id=[7, 7, 8, 7],
            timestamp=[5, 10, 15, 5],
            is_organic=[1, 1, 1, 0],
            event_type=["like", "unlike", "like", "dislike"],
        ),
        {"1": {"8"}},
        {"2": {"7"}},
        name="multi_event.parquet",
    ),
    Case(
        "yambda-dislikes",
        _parquet(uid=[1], item_id=[7], timestamp=[5], is_organic=[1]),
        {},
        {"1": {"7"}},
        name="dislikes.parquet",
    ),
    Case(
        "yambda-likes",
        _parquet(uid=[1], item_id=[7], timestamp=[5], is_organic=[1]),
        {"1": {"7"}},
        name="likes.parquet",
    ),
    Case(
        "yambda",
        _parquet(
            uid=[1],
            item_id=[[7, 8, 9]],
            timestamp=[[5, 10, 15]],
            is_organic=[[1, 1, 1]],
            event_type=[["like", "dislike", "listen"]],
        ),
        {"1": {"7"}},
        {"1": {"8"}},
        name="sequential.parquet",
    ),
    Case(
        "yambda-dislikes",
        _parquet(uid=[1], item_id=[7], timestamp=[5], is_organic=[1]),
        {},
        {"1": {"7"}},
        name="50m_dislikes.parquet",
    ),
    Case(
        "yambda-listens",
        _parquet(uid=[1, 1], item_id=[7, 8], timestamp=[5, 6], is_organic=[1, 1], played_ratio_pct=[100, 90]),
        {"1": {"7", "8"}},
        name="listens.parquet",
    ),
    Case(
        "30music",
        'event.play\t1\t1400000000\t{"playtime":1}\t{"subjects":[{"type":"user","id":1}],"objects":[{"type":"track","id":2}]}\n',
        {"1": {"2"}},
        name="events.idomaar",
    ),
    Case(
        "30music",
        'preference\t1\t1400000000\t{"value":"love"} {"subjects":[{"type":"user","id":1}],"objects":[{"type":"track","id":2}]}\n',
        {"1": {"2"}},
        name="love.idomaar",
    ),
    Case("seed", json.dumps({"ann": ["s1", "s2"], "bob": None}), {"ann": {"s1", "s2"}}),
    Case("adjacency", "u1 s1 s2\nu2 s1\n", {"u1": {"s1", "s2"}, "u2": {"s1"}}),
    # --- any table ---
    Case(
        "table",
        "user_id:token\titem_id:token\trating:float\nu1\ta1\t5\nu1\ta2\t1\n",
        {"u1": {"a1"}},
        name="x.inter",
    ),
    Case(
        "table",
        '{"FeedbackType":"like","UserId":"u","ItemId":"i","Timestamp":"2022-11-20T00:00:00Z"}\n'
        '{"FeedbackType":"read","UserId":"u","ItemId":"j","Timestamp":"2022-11-20T00:00:00Z"}\n',
        {"u": {"i"}},
    ),
    Case(
        "table",
        '{"user_id": ["ann", "ben"], "track_id": ["t1", "t1"], "liked": [true, false]}',
        {"ann": {"t1"}},
    ),
    Case("table", '[{"user": "ann", "track": {"id": "t1", "artists": [{"name": "X"}]}}]', {"ann": {"t1"}}),
    Case(
        "table",
        _parquet(user=["ann"], tracks=[["t1", "t2"]]),
        {"ann": {"t1", "t2"}},
        options={"track_column": "tracks"},
    ),
    Case("list", "artist,title\nThe Lanterns,Intro\n", {"me": {LANTERNS}}),
    Case("list", "track_id,liked\ns1,yes\ns2,no\n", {"me": {"s1"}}),
    Case(
        "catalogue",
        "id\tartist\tsong\nDaTQ53TUmfP93FSr\tThe Lanterns\tIntro\n",
        {},
        name="id_information.csv",
    ),
]
_BEYOND = {"yambda-unlikes", "yambda-undislikes", "musicbrainz-canonical", "acousticbrainz"}
"""Formats whose files say nothing alone: `test_canonical_data` and `test_acousticbrainz` have theirs."""


def songs(frame: pl.DataFrame) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for user, track in frame.select("user_id", "track_id").iter_rows():
        found.setdefault(user, set()).add(track)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.format}-{case.name}")
def test_a_file_of_the_format_becomes_its_likes_and_dislikes(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.content.encode() if isinstance(case.content, str) else case.content)
    imports = import_files([path], **case.options)
    assert case.format in {one.format.name for one in imports}
    assert songs(pl.concat([one.batch.likes for one in imports])) == case.likes
    assert songs(pl.concat([one.batch.feedback for one in imports])) == case.dislikes


def test_every_format_has_a_file_here() -> None:
    assert {one.name for one in FORMATS} - {case.format for case in CASES} == _BEYOND


def test_the_columns_of_every_format_make_a_header() -> None:
    for one in FORMATS:
        for columns in one.columns:
            assert count_known(columns.split(), ()), (one.name, columns)


def test_unlikes_alone_say_nothing(tmp_path: Path) -> None:
    for name in ("unlikes", "undislikes"):
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(_parquet(uid=[1], item_id=[7], timestamp=[5], is_organic=[1]))
        with pytest.raises(InputError, match="takes opinions back and gives none"):
            import_files([path])
