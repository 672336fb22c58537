"""What is put together from kept pieces is what the answer says of itself."""

import json
from pathlib import Path

import numpy as np
import pydantic_core
import pytest

from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.filters import Filters
from tunegraph_pipeline.recommend.recommender import Query, Ranked, Recommendations, Recommender
from tunegraph_pipeline.serve.list_writer import ListWriter


@pytest.mark.parametrize("kept_bytes", [12 << 20, 5_000, 0])
def test_a_written_answer_is_the_described_one_however_much_is_kept(
    serving_lake: Path, kept_bytes: int
) -> None:
    recommender = Recommender(Bundle.open(serving_lake / "serving" / "v1"))
    ids = recommender.bundle.tracks
    rng = np.random.default_rng(3)
    likes = [
        [ids[track] for track in rng.integers(len(ids), size=rng.integers(8)).tolist()] for _ in range(60)
    ]
    queries = [
        Query(
            [*some, *([] if at % 3 else ['\u00e9"unknown'])],
            None,
            at % 12 + 1,
            links=(None, "deezer")[at % 2],
        )
        for at, some in enumerate(likes)
    ]
    queries.append(Query(likes[5], filters=Filters(years=(1500, 1501), unknown="exclude")))
    queries.append(Query(likes[6], k=500))
    artist = recommender.bundle.artist_ids[0]
    queries.append(Query(likes[7], mode="continue", artists=[artist], not_artists=["nobody"]))
    queries.append(Query(likes[8], surprise=1.0, seed=3))
    writer = ListWriter(recommender, kept_bytes)
    names: dict[str, int] = {"genres": 0, "links": 0}
    for query in queries + queries:
        (ranked,), (answer,) = recommender.ranked([query]), recommender.answer([query])
        if isinstance(answer, Exception):
            continue
        assert isinstance(ranked, Ranked)
        assert isinstance(answer, Recommendations)
        shown = answer.shown(recommender.bundle.model_version)
        written = json.loads(writer.write(ranked))
        assert written == json.loads(pydantic_core.to_json(shown))
        assert list(written) == list(shown)
        for one, right in zip(written["items"], shown["items"], strict=True):
            assert list(one) == list(right)
            for name in names:
                names[name] += len(one[name])
    assert all(names.values()), "no song has them"
