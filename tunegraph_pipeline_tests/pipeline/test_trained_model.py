"""What a training is given of a lake."""

from datetime import date

import numpy as np
import polars as pl

from tunegraph_pipeline.pipeline.catalogue import build_catalogue
from tunegraph_pipeline.pipeline.trained_model import training_data

FIRST, LAST = date(2026, 2, 1), date(2026, 2, 3)


def test_content_is_lined_up_with_the_id_map() -> None:
    from tunegraph_pipeline.graph.like_graph import build_like_graph
    from tunegraph_pipeline.lake.tables import empty_table

    ids = pl.Series("track_id", ["c", "a", "b"])
    likes = pl.DataFrame({"user_id": ["u", "u", "v"], "track_id": ["a", "b", "c"]})
    graph = build_like_graph(likes, ids, split_key="k", held_out=0.0, calibration_share=0.0)
    rows = [
        {"track_id": "a", "artist_ids": ["x", "y"], "album_id": "A", "source": "files"},
        {"track_id": "b", "artists": ["Z"], "album_id": "B", "source": "files"},
    ]
    tracks = pl.DataFrame(rows, schema=empty_table("tracks").schema)
    heard = pl.DataFrame(
        [{"track_id": "b", "provider": "files", "tempo": 120.0}], schema=empty_table("audio_features").schema
    )
    data = training_data(graph, build_catalogue(ids, tracks, heard)[0])
    assert data.album.tolist() == [-1, 0, 1]
    assert data.track_artists.sum(axis=1).ravel().tolist()[0] == [0, 2, 1]
    tempo = data.features[:, 9]
    assert np.isnan(tempo[:2]).all()
    assert tempo[2] == 120.0
    assert data.train.toarray().tolist() == [[0, 1, 1], [1, 0, 0]]


def test_training_is_told_what_is_known_of_a_recording_once() -> None:
    from tunegraph_pipeline.graph.like_graph import build_like_graph
    from tunegraph_pipeline.lake.tables import empty_table

    ids = pl.Series("track_id", ["a", "b", "a again"])
    likes = pl.DataFrame({"user_id": ["u", "u", "v"], "track_id": ["a again", "b", "a"]})
    canonical = np.array([0, 1, 0], dtype=np.int32)
    graph = build_like_graph(
        likes, ids, split_key="k", held_out=0.0, calibration_share=0.0, canonical=canonical
    )
    rows = [
        {"track_id": "a", "album_id": "A", "source": "files"},
        {"track_id": "a again", "artist_ids": ["x"], "album_id": "Best of", "source": "files"},
        {"track_id": "b", "artist_ids": ["x"], "source": "files"},
    ]
    heard = [{"track_id": "a again", "provider": "files", "tempo": 120.0}]
    catalogue, _ = build_catalogue(
        ids,
        pl.DataFrame(rows, schema=empty_table("tracks").schema),
        pl.DataFrame(heard, schema=empty_table("audio_features").schema),
    )
    data = training_data(graph, catalogue.with_columns(recording=pl.Series(canonical)))
    assert data.album.tolist() == [0, -1, -1]
    assert data.track_artists.toarray().tolist() == [[True], [True], [False]]
    assert data.features[0, 9] == 120.0
    assert np.isnan(data.features[1:]).all()
    assert data.train.toarray().tolist() == [[1, 1, 0], [1, 0, 0]]
