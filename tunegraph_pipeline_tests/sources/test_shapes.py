"""Shapes in which people have their lists, beyond those of one format: who likes what, or the way on."""
# ruff: noqa: E501  (files as people have them)

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.files import import_files
from tunegraph_pipeline_tests.sources.test_formats import _xlsx, songs

A, B = "1aaaaaaaaaaaaaaaaaaaaa", "2bbbbbbbbbbbbbbbbbbbbb"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(content: str | bytes, name: str = "given.csv") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return to_file


def likes_of(*paths: Path, **options: Any) -> dict[str, set[str]]:
    return songs(pl.concat([one.batch.likes for one in import_files(paths, **options)]))


ANN_BEN = {"ann": {"s1"}, "ben": {"s2"}}


@pytest.mark.parametrize(
    "text",
    [
        "user,track\nann,s1,\nben,s2,\n",
        "user,track\r\nann,s1,,\r\nben,s2,,\r\n",
        '"user,track"\n"ann,s1"\n"ben,s2"\n',
        "user,track\nann,s1\nuser,track\nben,s2\n",
        "'user','track'\n'ann','s1'\n'ben','s2'\n",
        "| user | track |\n|---|---|\n| ann | s1 |\n| ben | s2 |\n",
        "# exported by hand\n\nuser,track\nann,s1\nben,s2\n",
        "My likes\nuser;track\nann;s1\nben;s2\n",
        "Track, User\ns1, ann\ns2, ben\n",
        '{"user":{"0":"ann","1":"ben"},"track":{"0":"s1","1":"s2"}}',
        '{"columns":["user","track"],"index":[0,1],"data":[["ann","s1"],["ben","s2"]]}',
        '[{"user":{"id":"ann"},"track":{"id":"s1"}},{"user":{"id":"ben"},"track":{"id":"s2"}}]',
        '{"user":{"id":"ann"},"track":{"id":"s1"}}\n{"user":{"id":"ben"},"track":{"id":"s2"}}\n',
        '{"data": [{"user": "ann", "track": "s1"}, {"user": "ben", "track": "s2"}], "total": 2}',
    ],
)
def test_a_table_is_read_through_what_wraps_it(text: str, write: Write) -> None:
    assert likes_of(write(text)) == ANN_BEN


@pytest.mark.parametrize(
    "column",
    [
        "Person",
        "Friend",
        "Email Address",
        "nickname",
        "login",
        "Benutzer",
        "utilisateur",
        "usuario",
        "accountId",
        "visitorid",
    ],
)
def test_users_have_many_names(column: str, write: Write) -> None:
    text = f"{column},artist,title\nann,X,Intro\nben,Y,Home\n"
    assert likes_of(write(text)) == {"ann": {"name:x/intro"}, "ben": {"name:y/home"}}


@pytest.mark.parametrize(
    "column", ["Name", "owner", "client", "session_id", "User name of friend", "listener_name"]
)
def test_a_column_that_may_name_people_is_not_passed_over(column: str, write: Write) -> None:
    path = write(f"{column},artist,title\nann,X,Intro\nben,Y,Home\n")
    with pytest.raises(InputError, match="may say whose each song is; name it with --user-column"):
        import_files([path])
    assert likes_of(path, user_column=column) == {"ann": {"name:x/intro"}, "ben": {"name:y/home"}}
    assert likes_of(path, ignore=[column]) == {"me": {"name:x/intro", "name:y/home"}}


@pytest.mark.parametrize(
    "header",
    [
        "user,title,artist,album,isrc",
        "user,uts,utc_time,artist,album,track",
        "username,track name,artist name,playlist name,type",
        "user,Index,TagTime,Title,Artist,TrackKey",
    ],
)
def test_a_column_of_users_counts_in_every_format(header: str, write: Write) -> None:
    width = header.count(",")
    path = write(f"{header}\nann{',1700000000' * width}\nben{',1700000000' * width}\n")
    assert set(likes_of(path, min_plays=1) if "uts" in header else likes_of(path)) == {"ann", "ben"}


def test_names_of_playlists_are_one_persons(write: Write) -> None:
    assert likes_of(write("playlist,artist,title\nRoad Trip,X,A\nChill,Y,B\n")) == {
        "me": {"name:x/a", "name:y/b"}
    }


@pytest.mark.parametrize(
    "text",
    [
        f"Track Name,Artist Name,Album Name,Track URI\nIntro,X,Y,spotify:track:{A}\n",
        f"title,link\nIntro,https://open.spotify.com/track/{A}\n",
        f"Spotify Link\nhttps://open.spotify.com/intl-de/track/{A}?si=1\n",
        f"# my songs\nhttps://open.spotify.com/embed/track/{A}\n",
        f"{A}\n",
        f"spotify://track/{A}\n",
        f"<https://open.spotify.com/track/{A}>\n",
        f"https://open.spotify.com/album/{B}?highlight=spotify:track:{A}\n",
        f"https://api.spotify.com/v1/tracks/{A}\n",
    ],
)
def test_links_and_ids_of_songs_are_a_list(text: str, write: Write) -> None:
    assert likes_of(write(text)) == {"me": {A}}


def test_a_late_line_that_is_no_link_is_counted_and_is_no_song(write: Write) -> None:
    links = [f"https://open.spotify.com/track/{number:022}" for number in range(3_000)]
    [one] = import_files([write("\n".join([*links, "hello world", *links[:1]]))])
    assert one.batch.likes["track_id"].len() == 3_000
    assert one.batch.counts["rows without a track"] == 1


def test_what_is_no_song_in_a_list_of_a_server_is_counted(write: Write) -> None:
    items = [
        {"Id": "a", "Type": "Audio", "Name": "A", "Artists": ["X"], "UserData": {"IsFavorite": True}},
        {"Id": "m", "Type": "Movie", "Name": "M", "UserData": {"IsFavorite": True}},
    ]
    [one] = import_files([write(json.dumps({"Items": items}), "items.json")])
    assert songs(one.batch.likes) == {"me": {"name:x/a"}}
    assert one.batch.counts["rows without a track"] == 1


def test_episodes_in_a_renamed_history_are_counted(write: Write) -> None:
    plays = [
        {"ts": "2023-01-01T00:00:00Z", "ms_played": 200_000, key: f"spotify:{kind}:{A}"}
        for key, kind in (("spotify_track_uri", "track"), ("spotify_episode_uri", "episode"))
    ]
    [one] = import_files([write(json.dumps(plays), "renamed.json")], min_plays=1)
    assert songs(one.batch.likes) == {"me": {A}}
    assert one.batch.counts["podcast episodes"] == 1


def test_codes_of_recordings_are_a_list(write: Write) -> None:
    assert likes_of(write("isrc\nQZ-AAA-20-00001\nqzaaa2000002\n")) == {
        "me": {"isrc:QZAAA2000001", "isrc:QZAAA2000002"}
    }


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        (f"1,spotify:track:{A}\n2,spotify:track:{B}\n", "a.csv", "its first column holds the numbers of the rows"),
        (f"spotify:track:{A},spotify:track:{B}\n", "a.csv", "its first column holds links of songs"),
        (f"QZAAA2000001,spotify:track:{A}\n", "a.csv", "its first column holds ISRCs"),
        ("1609459200,t1\n1609459201,t2\n", "a.csv", "its first column holds times"),
        (f"https://youtu.be/dQw4w9WgXcQ https://open.spotify.com/track/{A}\n", "a.txt", "links of songs"),
        ("Artist;Name;Scrobbles;Rank\nX;Album;1;1\n", "lastfmstats-albums-export.csv", "is a table of albums; export"),
        ("position,track_name,artist_name,streams\n1,A,B,9\n", "chart.csv", "is a chart, which is nobody's list"),
        ("Video ID,Playlist Video Creation Timestamp\ndQw4w9WgXcQ,2024-01-01T00:00:00Z\n", "Watch later.csv", "to watch later"),
        ("Comment ID,Video ID,Comment Text\nx,dQw4w9WgXcQ,hi\n", "comments.csv", "is a table of comments"),
        ("Video ID,Privacy,Video State\ndQw4w9WgXcQ,Private,Live\n", "videos.csv", "is a table of videos with 'Privacy'"),
        ("{\\rtf1 hello}", "a.rtf", "is a Rich Text document"),
        ("%PDF-1.7", "a.pdf", "is a binary file"),
        ('{"tracks": {"href": "https://api.spotify.com/v1/search?q=x", "items": [{"track": {"id": "1"}}]}}', "a.json",
         "is the answer of a search"),
        ('{"ann": [{"artist": "X", "title": "Y"}], "ben": [{"artist": "X", "title": "Z"}]}', "a.json", "has several lists"),
        ("user_id,track_id,liked\nann,t1,maybe\n", "a.csv", "column liked says 'maybe', which is not understood"),
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused_with_the_way_on(text: str, name: str, says: str, write: Write) -> None:
    with pytest.raises(InputError) as caught:
        import_files([write(text, name)])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("time", "day"),
    [
        ("14/11/23", "2023-11-14"),
        ("11/14/2023", "2023-11-14"),
        ("2/18/17, 5:31 PM", "2017-02-18"),
        ("31 Jan 2021, 23:36", "2021-01-31"),
        ("Tue, 14 Nov 2023 22:13:20 GMT", "2023-11-14"),
        ("2023-11-14t22:13:20z", "2023-11-14"),
        ("2023-11-14 22:13:20 UTC", "2023-11-14"),
        ("2023-11-14 22:13:20-08", "2023-11-15"),
        ("14.11.2023 22:13", "2023-11-14"),
        ("2023年11月14日", "2023-11-14"),
        ("20231114", "2023-11-14"),
        ("1700000000.5", "2023-11-14"),
        ("1700000000000000000", "2023-11-14"),
        ("3/4/2021", None),
        ("2023", None),
        ("0", None),
        ("-5", None),
        ("2099-01-01", None),
        ("soon", None),
    ],
)
def test_a_time_is_read_or_counted_and_never_invented(time: str, day: str | None, write: Write) -> None:
    [one] = import_files([write(f'user,track,date\nann,t1,"{time}"\n')])
    stored = one.batch.likes["liked_at"][0]
    assert (str(stored.date()) if stored else None) == day
    counted = sum(
        one.batch.counts.get(what, 0)
        for what in ("times not understood", "times before 1990 or in the future")
    )
    assert counted == (day is None)


def test_a_day_that_may_be_a_month_is_read_where_the_column_tells(write: Write) -> None:
    months_first = "user,track,date\nann,t1,3/4/2021\nann,t2,3/14/2021\n"
    assert import_files([write(months_first)])[0].batch.likes["liked_at"].dt.date().cast(
        pl.String
    ).to_list() == [
        "2021-03-04",
        "2021-03-14",
    ]
    both = months_first + "ann,t3,14/3/2021\n"
    times = import_files([write(both)])[0].batch.likes["liked_at"].dt.date().cast(pl.String).to_list()
    assert times == [None, "2021-03-14", "2021-03-14"]


@pytest.mark.parametrize(
    ("text", "song"),
    [
        (
            f"트랙 URI,트랙 이름,아티스트 이름,추가한 날짜\nspotify:track:{A},Intro,X,2024-01-01T00:00:00Z\n",
            A,
        ),
        (f"URI трека,Название\nspotify:track:{A},Intro\n", A),
        (
            "Identyfikator filmu,Sygnatura czasowa\ndQw4w9WgXcQ,2024-01-01T00:00:00+00:00\n",
            "youtube:dQw4w9WgXcQ",
        ),
        (f"#;Track Name;Artist Name(s);Album Name;Added Date;Spotify Id\n1;Intro;X;A;2024-01-01;{A}\n", A),
    ],
)
def test_a_header_in_an_unknown_language_is_known_by_the_cells_below(
    text: str, song: str, write: Write
) -> None:
    assert likes_of(write(text)) == {"me": {song}}


def test_text_of_a_document_is_read_in_its_declared_encoding(write: Write) -> None:
    xspf = (
        '<?xml version="1.0" encoding="{}"?><playlist xmlns="http://xspf.org/ns/0/"><trackList><track>'
        "<title>Déjà</title><creator>Björk</creator></track></trackList></playlist>"
    )
    for encoding in ("ISO-8859-1", "UTF-16", "UTF-8"):
        path = write(xspf.format(encoding).encode(encoding), "a.xspf")
        assert likes_of(path) == {"me": {"name:bjork/deja"}}


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("<subsonic-response><randomSongs><song id='3' title='I' artist='X'/></randomSongs></subsonic-response>", "a.xml",
         "without starred songs"),
        ("<lfm><toptracks><track><name>I</name></track></toptracks></lfm>", "a.xml", "without loved, recent or banned"),
        ('playlist\t1\t1216671548\t{"ID":1}\t{"objects":[]}\n', "playlist.idomaar", "without events of users"),
        ("id\tname\turl\tpictureURL\n1\tX\thttp://x\thttp://y\n", "artists.dat", "is a table of artists"),
        ('{"inferences": ["3P_x"]}', "Inferences.json", "JSON of no known service"),
    ],
)  # fmt: skip
def test_answers_and_tables_of_other_things_are_refused(
    text: str, name: str, says: str, write: Write
) -> None:
    with pytest.raises(InputError) as caught:
        import_files([write(text, name)])
    assert says in str(caught.value)


def test_attributes_of_a_playlist_are_no_names(write: Write) -> None:
    text = '#EXTM3U\n#EXTINF:200 tvg-id="a,b" group="x",Y - Home\na.mp3\n#EXTINF:-1,X - Intro\nb.mp3\n'
    assert likes_of(write(text, "a.m3u")) == {"me": {"name:y/home", "name:x/intro"}}


def test_a_song_without_a_number_is_known_by_its_names(write: Write) -> None:
    rows = '"X - A - Live",LIKE,0\n"Y - B",LIKE,0\n'
    text = f"Item Description,Preference,Item Reference\n{rows}"
    assert likes_of(write(text)) == {"me": {"name:x/a live", "name:y/b"}}


def test_votes_of_others_and_labels_of_records_are_no_opinions(write: Write) -> None:
    reviews = "user_id,parent_asin,rating,helpful_vote\nann,b1,1.0,4\nann,b2,5.0,0\n"
    assert likes_of(write(reviews)) == {"ann": {"b2"}}
    assert likes_of(write("user,track,label\nann,s1,Warp\nann,s2,Ninja\n")) == {"ann": {"s1", "s2"}}
    assert likes_of(write("user_id:token,item_id:token,label:float\nann,s1,1\nann,s2,0\n")) == {"ann": {"s1"}}


def test_ratings_in_a_column_without_a_name_need_an_option(write: Write) -> None:
    path = write("A1,B1,5.0,1341100800\nA2,B2,1.0,1341100800\n")
    columns = {"user_column": "1", "track_column": "2", "time_column": "4"}
    assert likes_of(path, min_rating=4, **columns) == {"A1": {"B1"}}


def test_a_repeated_song_makes_no_history_of_a_list_of_likes(write: Write) -> None:
    rows = "X,A,2024-01-01\nX,A,2020-01-01\nY,B,2022-01-01\n"
    assert likes_of(write(f"artist,title,liked_at\n{rows}")) == {"me": {"name:x/a", "name:y/b"}}
    with pytest.raises(InputError, match="songs played fewer than 5 times: 2"):
        import_files([write(f"Artist,Track,Time\n{rows}")])
    assert likes_of(write(f"Artist,Track,Time\n{rows}"), min_plays=2) == {"me": {"name:x/a"}}


@pytest.mark.parametrize("missing", ["null", "NULL", "NA", "N/A", "nan", "None", "\\N", ""])
def test_a_missing_id_is_no_id(missing: str, write: Write) -> None:
    path = write(f"user,spotify_id,artist,title\nben,{missing},Y,B\n{missing},{A},X,C\nann,{A},X,C\n")
    assert likes_of(path) == {"ben": {"name:y/b"}, "ann": {A}}


def test_titles_that_are_numbers_are_titles(write: Write) -> None:
    path = write("user,artist,track\nann,Prince,1999\nben,Charli,1999\n")
    assert likes_of(path) == {"ann": {"name:prince/1999"}, "ben": {"name:charli/1999"}}
    assert likes_of(write("artist,track\nPrince,1999\n")) == {"me": {"name:prince/1999"}}


@pytest.mark.parametrize(
    ("text", "name", "likes"),
    [
        ("user_id\ttrack_id\tcount\n1\t10\t3\n2\t11\t1\n", "listening-counts.tsv", {"1": {"10"}, "2": {"11"}}),
        ("user_id\ttrack_id\talbum_id\ttimestamp\n1\t10\t5\t2020-01-01 10:00:00\n", "listening-events.tsv", {"1": {"10"}}),
        (f"{'b8' * 20}\tSOAKIMP12A8C130995\t1\n{'b8' * 20}\tSOAPDEY12A81C210A9\t300\n", "train_triplets.txt",
         {"b8" * 20: {"SOAKIMP12A8C130995", "SOAPDEY12A81C210A9"}}),
        (f"id,user_id,track_id,hashtag,created_at\n1,8149,{'cd' * 16},nowplaying,2014-01-01 05:54:21\n", "now.csv",
         {"8149": {"cd" * 16}}),
        ('"user_id", "artistname", "trackname", "playlistname"\n"9cc0","X","(The) Red Shoes","ROCK 2010"\n', "playlists.csv",
         {"9cc0": {"name:x/the red shoes"}}),
        ("Track Name,Artist Name,Album,Playlist,Type,ISRC\nIntro,X,A,Mine,track,QZAAA2000001\n", "freeyourmusic.csv",
         {"me": {"isrc:QZAAA2000001"}}),
        ("name,artist,album\nIntro,X,A\n", "freeyourmusic.csv", {"me": {"name:x/intro"}}),
        ("user,item,rating,timestamp\nA1,B1,5.0,1341100800\nA1,B2,1.0,1341100800\n", "reviews.csv", {"A1": {"B1"}}),
        ('{"user_id":"ann","track_id":"t1","liked":true}\n{"user_id":"ann","track_id":"t2","liked":false}\n', "a.jsonl",
         {"ann": {"t1"}}),
    ],
)  # fmt: skip
def test_other_peoples_data_is_read(text: str, name: str, likes: dict[str, set[str]], write: Write) -> None:
    assert likes_of(write(text, name)) == likes


# --- whose ---


def test_files_of_two_people_are_not_one_person(write: Write) -> None:
    text = f"Track URI,Track Name,Artist Name(s),Added At\nspotify:track:{A},Intro,X,2024-01-01T00:00:00Z\n"
    for first, second in (
        ("ann/Liked_Songs.csv", "ben/Liked_Songs.csv"),
        ("ann/Liked_Songs.csv", "ben/liked_songs.csv"),
        ("recenttracks-ann-1.csv", "recenttracks-ben-1.csv"),
        ("lastfmstats-ann.csv", "lastfmstats-ben.csv"),
    ):
        paths = [write(text, first), write(text, second)]
        with pytest.raises(InputError, match="--user-id"):
            import_files(paths)
        assert set(likes_of(*paths, user_id="us")) == {"us"}
    assert set(likes_of(write(text, "Road_Trip.csv"), write(text, "Liked_Songs.csv"))) == {"me"}


def test_a_file_that_names_its_user_takes_another_name_only_for_one(write: Write) -> None:
    one, two = write("user,track\nann,s1\n", "one.csv"), write("user,track\nann,s1\nben,s1\n", "two.csv")
    assert likes_of(one, user_id="cyd") == {"cyd": {"s1"}}
    with pytest.raises(InputError, match="names 2 users itself; leave --user-id out"):
        import_files([two], user_id="cyd")


def test_plays_of_two_accounts_are_not_one_persons(write: Write) -> None:
    rows = [{"ts": "2024-01-01T00:00:00Z", "username": name, "ms_played": 99_999, "spotify_track_uri": f"spotify:track:{A}"}
            for name in ("ann", "ben")]  # fmt: skip
    for name in ("Streaming_History_Audio_2024.json", "history.json"):
        with pytest.raises(InputError, match="has the plays of 2 accounts"):
            import_files([write(json.dumps(rows), name)], min_plays=1)


# --- workbooks ---


def test_sheets_without_a_like_are_left_out_and_named(write: Write) -> None:
    artists = [["Artist", "Link"], ["X", "https://www.deezer.com/artist/27"]]
    liked = [["Song Title", "Artists", "Album Title", "ISRC"], ["Intro", "X", "T", ""]]
    disliked = [["Song Title", "Artist", "ISRC"], ["Bad", "Y", ""]]
    playlists = [["Playlist Title", "Link"], ["Mix", "https://www.deezer.com/playlist/9"]]
    history = [
        ["Song Title", "Artist", "ISRC", "Listening Time", "Platform Name"],
        ["Once", "Z", "", "200", "web"],
    ]
    book = _xlsx(
        **{
            "4_favoriteArtist": artists,
            "7_favoritePlaylist": playlists,
            "8_favoriteSong": liked,
            "9_dislikedTracks": disliked,
            "10_listeningHistory": history,
        }
    )
    imports = import_files([write(book, "deezer-data_1.xlsx")])
    assert songs(pl.concat([one.batch.likes for one in imports])) == {"me": {"name:x/intro"}}
    assert songs(pl.concat([one.batch.feedback for one in imports])) == {"me": {"name:y/bad"}}
    assert any("left out" in rule and "artists" in rule for rule in imports[0].rules)


def test_sheets_named_by_opinions_or_people(write: Write) -> None:
    rows = [["artist", "title"], ["X", "Intro"]]
    liked, disliked = import_files(
        [write(_xlsx(Liked=rows, Disliked=[["artist", "title"], ["Y", "Bad"]]), "a.xlsx")]
    )
    assert songs(liked.batch.likes) == {"me": {"name:x/intro"}}
    assert songs(disliked.batch.feedback) == {"me": {"name:y/bad"}}
    with pytest.raises(InputError, match="several sheets of songs, which may be of several people"):
        import_files([write(_xlsx(Ann=rows, Ben=rows), "b.xlsx")])


def test_rows_above_the_header_of_a_sheet_are_skipped(write: Write) -> None:
    rows = [["My songs", ""], ["", ""], ["artist", "title"], ["X", "Intro"]]
    assert likes_of(write(_xlsx(Songs=rows), "a.xlsx")) == {"me": {"name:x/intro"}}


# --- options ---


def test_options_that_contradict_each_other_are_refused(write: Write) -> None:
    path = write("user,track,mood\nann,s1,happy\n")
    with pytest.raises(InputError, match="column user is named by two options"):
        import_files([path], user_column="user", track_column="user")
    with pytest.raises(InputError, match="is both in --like-when and in --ignore-column"):
        import_files([path], ignore=["mood"], like_when={"mood": frozenset({"happy"})})
    with pytest.raises(InputError, match="has no column 'smile'; --ignore-column can be one of"):
        import_files([path], ignore=["smile"])


def test_a_format_known_by_the_name_of_its_file_can_be_named(write: Write) -> None:
    path = write("uts,utc_time,artist,artist_mbid,album,album_mbid,track,track_mbid\n1700000000,x,A,,B,,C,\n")
    assert likes_of(path, format="lastfm-loved") == {"me": {"name:a/c"}}


def test_a_file_named_after_dislikes_holds_dislikes(write: Write) -> None:
    [one] = import_files([write("artist,title\nX,Y\n", "disliked.csv")])
    assert songs(one.batch.feedback) == {"me": {"name:x/y"}}
    assert not len(one.batch.likes)
    assert any("since the name says disliked" in rule for rule in one.rules)


def test_a_header_in_an_unknown_language_may_repeat_a_name(write: Write) -> None:
    text = f"Foo,Foo,Bar\nx,y,spotify:track:{A}\nz,y,spotify:track:{B}\n"
    assert likes_of(write(text), user_id="ann", like_when={"Foo (2)": frozenset({"y"})}) == {"ann": {A, B}}
