"""Draw docs/images/co_like.svg: the example of docs/co_like.md, with the numbers the code gives.

python docs/images/draw_co_like.py
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from scipy.sparse import csr_matrix

from tunegraph_pipeline.graph.co_like import co_like_blocks, strongest_neighbours

USERS, SONGS = ("Ana", "Ben", "Cho"), ("s0", "s1", "s2", "s3")
COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44")
INK = "#222222"
A = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1]], dtype=np.float32)


def co_likes() -> np.ndarray:
    lengths, columns, counts = next(co_like_blocks(csr_matrix(A)))
    return csr_matrix((counts, columns, np.append(0, np.cumsum(lengths))), shape=(4, 4)).toarray()


def draw_graph(axes: Axes) -> None:
    user_y, song_y = np.linspace(2.6, 0.4, 3), np.linspace(3, 0, 4)
    for user, song in np.argwhere(A):
        axes.plot([0, 2], [user_y[user], song_y[song]], color=COLOURS[user], lw=2, zorder=1)
    for user, y in enumerate(user_y):
        axes.scatter(0, y, s=1100, color=COLOURS[user], zorder=2)
        axes.text(0, y, USERS[user], color="white", ha="center", va="center", zorder=3)
    for song, y in enumerate(song_y):
        axes.scatter(2, y, s=800, marker="s", color="white", edgecolor=INK, zorder=2)
        axes.text(2, y, SONGS[song], ha="center", va="center", zorder=3)
    axes.set(xlim=(-0.6, 2.6), ylim=(-0.6, 3.6), title="who likes what")
    axes.axis("off")


def draw_neighbours(axes: Axes, B: np.ndarray) -> None:
    place = np.array([[0.2, 2.7], [0.2, 0.3], [1.5, 1.5], [2.9, 1.5]])
    for one, other in np.argwhere(np.triu(B)):
        axes.plot(*place[[one, other]].T, color="#888888", lw=2.5 * B[one, other], zorder=1)
        x, y = place[[one, other]].mean(axis=0)
        axes.text(x, y, f"{B[one, other]}", ha="center", va="center", zorder=2, bbox=WHITE)
    for song, (x, y) in enumerate(place):
        axes.scatter(x, y, s=800, marker="s", color="white", edgecolor=INK, zorder=2)
        axes.text(x, y, SONGS[song], ha="center", va="center", zorder=3)
    axes.set(xlim=(-0.5, 3.5), ylim=(-0.6, 3.6), title="who is whose neighbour")
    axes.axis("off")


def draw_matrix(axes: Axes, M: np.ndarray, rows: tuple[str, ...], title: str, form: str) -> None:
    axes.imshow(M, cmap="Blues", vmin=0, vmax=2.5 * M.max())
    for (row, column), value in np.ndenumerate(M):
        text = "–" if rows is SONGS and row == column else format(value, form) if value else "0"
        axes.text(column, row, text, ha="center", va="center", color=INK if value else "#999999")
    axes.set_xticks(range(M.shape[1]), SONGS[: M.shape[1]])
    axes.set_yticks(range(len(rows)), rows)
    axes.set_title(title, pad=12)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    for side in axes.spines.values():
        side.set_visible(False)


WHITE = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"}


def main() -> None:
    mpl.rcParams.update({"font.size": 11, "svg.fonttype": "path", "svg.hashsalt": "co_like"})
    B, S = co_likes(), strongest_neighbours(csr_matrix(A)).toarray()
    figure, panels = plt.subplots(1, 5, figsize=(15, 3.9), layout="constrained")
    figure.patch.set_facecolor("white")  # legible on a dark page too
    draw_graph(panels[0])
    draw_matrix(panels[1], A.astype(int), USERS, "A", "d")
    draw_neighbours(panels[2], B)
    draw_matrix(panels[3], B, SONGS, "B = AᵀA", "d")
    draw_matrix(panels[4], S, SONGS, "S, degree-normalised", ".2f")
    target = Path(__file__).with_name("co_like.svg")
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main()
