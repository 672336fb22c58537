"""V1, V2, V3 as it was first written, and today's model: one world, one table.

    python benchmarks/generations.py [--tracks 22481] [--users 2900] [--spotify-songs spotify_songs.csv.gz]

All four are trained on the same likes of a simulated world, about as many tracks and edges as the first
project had, or on real songs whose playlists are the users; they stop early on one fold and are judged on
another that no choice has seen, over the whole catalogue. Every model has a process of its own, so that its
peak memory is its own; that includes Python, torch and the data. A query is that of a training user, as the
model answered it when it served: through the K-d tree (V1, V2), over 300 candidates (V3), from the bundle
(today's). A new user is somebody whose likes nobody has seen. Not here: other people's methods.
"""

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from tunegraph_pipeline.evaluation.evaluate import HeldOut, evaluate
from tunegraph_pipeline.evaluation.generations import GenerationRanking, ServedModel
from tunegraph_pipeline.graph.like_graph import build_like_graph
from tunegraph_pipeline.graph.split import EARLY_STOPPING, GATE, TRAIN
from tunegraph_pipeline.lake.raw import RawBatch
from tunegraph_pipeline.orchestration.assets.model import training_data
from tunegraph_pipeline.orchestration.measure import Measured
from tunegraph_pipeline.sources.files import read_files
from tunegraph_pipeline.sources.simulator import World, WorldConfig
from tunegraph_pipeline.training.generations import GENERATIONS, GenerationConfig
from tunegraph_pipeline.training.train import TrainingConfig, TrainingData

K = 10
HELD_OUT = 0.2
"""Share of the likes held out, half to stop by and half to judge on: ten times what a lake keeps, because few
held-out likes tell models apart badly."""
MODELS = (*GENERATIONS, "tunegraph")
NAMES = {"v1": "V1", "v2": "V2", "v3_seed": "V3, as first written", "tunegraph": "TuneGraph"}


@dataclass(frozen=True)
class World_:
    """What there is to learn from: a simulated world of this size, or a file."""

    users: int
    tracks: int
    songs: Path | None

    def data(self) -> tuple[TrainingData, HeldOut]:
        batches = read_files([self.songs]) if self.songs else [self._simulated()]
        return split(merged(batches))

    def _simulated(self) -> RawBatch:
        size = WorldConfig(n_users=self.users, n_tracks=self.tracks)
        return World(size).crawl(date(2026, 12, 31))
