"""The zip of the function: what is in it, that it answers in a bare Python within 128 MB, and equal bytes."""

import hashlib
import importlib.metadata
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.recommend.bundle import Bundle, BundleContent, write_bundle
from tunegraph_pipeline.recommend.recommender import Recommender
from tunegraph_pipeline.serve.aws_lambda import package as lambda_package
from tunegraph_pipeline.serve.aws_lambda.package import (
    copy_without_users,
    interpreter,
    main,
    modules,
    numpy_wheel,
    pack_bundle,
    pack_function,
)
from tunegraph_pipeline_tests.conftest import THOROUGH
from tunegraph_pipeline_tests.recommend.conftest import golden_content, random_content

pytestmark = pytest.mark.slow

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
N_TRACKS, N_USERS, N_LIKES, DIMENSION = 22_481, 2_900, 125_300, 128
"""The size of the 2022 service."""


def seed_size_content() -> BundleContent:
    """As many songs and likes, a hundred neighbours a song, and names as long as names are."""
    rng = np.random.default_rng(1)
    embeddings = rng.standard_normal((N_TRACKS, DIMENSION), dtype=np.float32) * 0.97 ** np.arange(DIMENSION)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    liked = np.unique(rng.integers(N_USERS * N_TRACKS, size=N_LIKES + 200))[:N_LIKES]
    users, tracks = np.divmod(rng.permutation(liked), N_TRACKS)
    order = np.lexsort((tracks, users))
    users, tracks = users[order], tracks[order]
    texts = [
        f"A song of the name {track} that is about as long as such names are" for track in range(N_TRACKS)
    ]
    return BundleContent(
        track_ids=[
            hashlib.blake2b(str(track).encode(), digest_size=11).hexdigest() for track in range(N_TRACKS)
        ],
        embeddings=embeddings.astype(np.float32),
        pooling_weight=rng.random(N_TRACKS, dtype=np.float32) + 0.5,
        popularity=np.bincount(tracks, minlength=N_TRACKS).astype(np.int32),
        recommendable=np.ones(N_TRACKS, dtype=np.bool_),
        prior=(rng.random(N_TRACKS) / 10).astype(np.float32),
        neighbour_indptr=np.arange(N_TRACKS + 1) * 100,
        neighbour_indices=np.sort(rng.integers(N_TRACKS, size=(N_TRACKS, 100)), axis=1)
        .ravel()
        .astype(np.int32),
        neighbour_weight=rng.random(N_TRACKS * 100, dtype=np.float32),
        user_ids=[f"listener {user}" for user in range(N_USERS)],
        user_indptr=np.searchsorted(users, np.arange(N_USERS + 1)),
        user_tracks=tracks.astype(np.int32),
        names=texts,
        artists=[text[-30:] for text in texts],
        image_urls=[f"https://image.example.org/{track:040d}" for track in range(N_TRACKS)],
        preview_urls=[f"https://preview.example.org/{track:040d}" for track in range(N_TRACKS)],
        facts={
            "bundle_version": "2026-11-24-seed",
            "model_version": "m",
            "blend": {"embedding": 1.0, "neighbour": 1.0, "length_exponent": 0.5},
        },
    )


@pytest.fixture(scope="module")
def installed_numpy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The numpy of this Python as the wheel it came in, for a test without a network."""
    path = tmp_path_factory.mktemp("wheel") / "numpy.whl"
    files = importlib.metadata.files("numpy") or []
    with zipfile.ZipFile(path, "w") as packed:
        for file in files:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                packed.write(str(file.locate()), str(file))
    return path


@pytest.fixture(scope="module")
def packed(installed_numpy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    write_bundle(folder / "serving" / "seed", seed_size_content())
    output = folder / "build" / "function.zip"
    pack_function(output, installed_numpy, Bundle.open(folder / "serving" / "seed"), sys.executable)
    return output


_AS_LAMBDA = """
import json, os, resource, sys
limit = 128 << 20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
os.environ["AWS_LAMBDA_FUNCTION_NAME"] = "f"
assert not any("site-packages" in path for path in sys.path), sys.path
sys.path.insert(0, sys.argv[1])
from tunegraph_pipeline.serve.aws_lambda.handler import lambda_handler, recommender
ids = recommender().bundle.tracks
for query in range(int(sys.argv[2])):
    likes = [ids[(query * 7919 + place * 131) % len(ids)] for place in range(query % 60)]
    body = {"likes": likes, "dislikes": likes[:query % 3], "k": 30, "diversity": query % 2 / 2,
            "format": ["seed", "tunegraph"][query % 2]}
    done = lambda_handler({"httpMethod": "POST", "body": json.dumps(body)}, None)
    assert done["statusCode"] == 200, done
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
strangers = sorted(name for name, module in sys.modules.items()
                   if (path := getattr(module, "__file__", None)) and not path.startswith(sys.argv[1])
                   and not path.startswith(os.path.dirname(os.__file__)))
print(json.dumps({"peak": int(peak) * 1024, "strangers": strangers, "last": json.loads(done["body"])}))
"""


def test_the_zip_answers_in_a_bare_python_within_128_mb(packed: Path, tmp_path: Path) -> None:
    """Nothing else on the path, no more memory than the smallest function has, and nothing written."""
    assert packed.stat().st_size < 60_000_000
    with zipfile.ZipFile(packed) as function:
        function.extractall(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _AS_LAMBDA, str(tmp_path), "240"],
        capture_output=True,
        text=True,
        check=False,
        env={},
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["strangers"] == []
    assert told["peak"] < 128_000_000
    assert len(told["last"]["items"]) == 30
    # Lambda unpacks the zip where nothing can be written, so what is compiled has to be in it.
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_zip_is_the_same_bytes_each_time(installed_numpy: Path, tmp_path: Path) -> None:
    wheel, zips = tmp_path / "numpy.whl", [tmp_path / "one.zip", tmp_path / "again.zip"]
    # Of numpy, whose libraries take seconds to compress, some modules to be compiled.
    with zipfile.ZipFile(installed_numpy) as whole, zipfile.ZipFile(wheel, "w") as part:
        for name in whole.namelist():
            if THOROUGH or (name.startswith("numpy/_core/") and name.endswith(".py")):
                part.writestr(name, whole.read(name))
    write_bundle(tmp_path / "serving" / "v1", golden_content())
    for output in zips:
        pack_function(output, wheel, Bundle.open(tmp_path / "serving" / "v1"), sys.executable)
    assert zips[0].read_bytes() == zips[1].read_bytes()
    with zipfile.ZipFile(zips[0]) as packed:
        names = packed.namelist()
    assert len([name for name in names if name.startswith("numpy/") and name.endswith(".pyc")]) > 20
    assert {path.name for path in tmp_path.iterdir()} == {"numpy.whl", "serving", "one.zip", "again.zip"}


def test_the_zip_holds_what_a_function_needs_and_not_what_tests_or_compilers_do(packed: Path) -> None:
    with zipfile.ZipFile(packed) as function:
        names = function.namelist()
        assert names == sorted(names)
        assert {info.date_time for info in function.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert "tunegraph_pipeline/serve/aws_lambda/handler.py" in names
    assert "bundle/manifest.json" in names
    assert not [name for name in names if "/tests/" in name or name.endswith((".pyi", ".a", ".h"))]
    ours = {name.split("/")[1].partition(".")[0] for name in names if name.startswith("tunegraph_pipeline/")}
    assert ours == {
        "__init__",
        "__pycache__",
        "errors",
        "ids",
        "json_nesting",
        "lake",
        "library",
        "models",
        "recommend",
        "serve",
        "song_ids",
        "song_names",
    }
    models = {name.split("/")[-1] for name in names if name.startswith("tunegraph_pipeline/models/")}
    assert {name for name in models if name.endswith(".py")} == {"__init__.py", "arrays.py", "blend.py"}


def test_the_modules_are_those_that_a_function_loads(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", golden_content())
    code = (
        "import sys; from tunegraph_pipeline.serve.aws_lambda import bundle_fetch, handler\n"
        "handler.lambda_handler({'httpMethod': 'GET'}, None)\n"
        "print([module.__file__ for name, module in sys.modules.items() if name.startswith('tunegraph')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"TUNEGRAPH_BUNDLE": str(tmp_path / "bundle"), "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    found = {str(path) for path, _ in modules()}
    assert set(eval(done.stdout)) <= found


# --- the bundle without its users ---


def test_no_user_and_no_list_is_in_the_zip_and_the_answers_are_the_same(tmp_path: Path) -> None:
    content = random_content(5)
    content.facts["blend"] = {"embedding": 1.0, "neighbour": 0.5, "length_exponent": 0.5}
    named = {**content.__dict__, "user_ids": [f"secret listener {user}" for user in range(20)]}
    write_bundle(tmp_path / "serving" / "v1", BundleContent(**named))
    whole = Bundle.open(tmp_path / "serving" / "v1")
    (whole.folder / "index.faiss").write_bytes(b"of a library that Lambda has not")
    (tmp_path / "copy").mkdir()
    copy_without_users(whole, tmp_path / "copy")
    copy = Bundle.open(tmp_path / "copy")
    copy.verify()
    for likes in (["t1"], ["t2", "t3", "t40"], [f"t{track}" for track in range(30)], []):
        assert Recommender(copy).recommend(likes) == Recommender(whole).recommend(likes)
    assert any(
        item.reasons[0].listeners for item in Recommender(copy).recommend(["t1"]).items if item.reasons
    )
    for path in copy.folder.iterdir():
        assert b"secret" not in path.read_bytes(), path
    assert not (copy.folder / "index.faiss").exists()
    assert not copy.user_tracks.size
    assert not copy.disliked_tracks.size
    assert copy.users.position("secret listener 1") == -1


def test_a_bundle_alone_is_what_a_function_may_fetch(tmp_path: Path) -> None:
    write_bundle(tmp_path / "serving" / "v1", golden_content())
    pack_bundle(tmp_path / "bundle.zip", Bundle.open(tmp_path / "serving" / "v1"))
    with zipfile.ZipFile(tmp_path / "bundle.zip") as opened:
        opened.extractall(tmp_path / "unpacked")
    bundle = Bundle.open(tmp_path / "unpacked")
    bundle.verify()
    assert bundle.version == "v1"


def test_a_function_larger_than_lambda_takes_is_refused(
    installed_numpy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path / "serving" / "v1", golden_content())
    bundle = Bundle.open(tmp_path / "serving" / "v1")
    monkeypatch.setattr(lambda_package, "MAX_UNPACKED_BYTES", 10 << 20)
    with pytest.raises(InputError, match=r"limit of 10 MiB; build it with --without-bundle"):
        pack_function(tmp_path / "build" / "f.zip", installed_numpy, bundle, None)
    assert list((tmp_path / "build").iterdir()) == []


# --- numpy, and the command ---


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that pip finds: a numpy of a few bytes for Python 3.13 on x86_64 and on arm64."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    version = importlib.metadata.version("numpy")
    info = f"numpy-{version}.dist-info"
    for machine in ("x86_64", "aarch64"):
        tag = f"cp313-cp313-manylinux_2_28_{machine}"
        with zipfile.ZipFile(folder / f"numpy-{version}-{tag}.whl", "w") as wheel:
            wheel.writestr("numpy/__init__.py", f"machine = {machine!r}\n")
            wheel.writestr("numpy/tests/test_all.py", "")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: numpy\nVersion: {version}\n")
            wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n")
            wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.mark.usefixtures("wheelhouse")
def test_numpy_is_fetched_for_the_runtime_or_missed_in_one_line(tmp_path: Path) -> None:
    for arch, machine in (("x86_64", "x86_64"), ("arm64", "aarch64")):
        (tmp_path / arch).mkdir()
        assert machine in numpy_wheel(tmp_path / arch, "3.13", arch).name
    with pytest.raises(InputError, match=r"^pip has no numpy \S+ for Python 3\.12 on arm64: .*numpy"):
        numpy_wheel(tmp_path, "3.12", "arm64")


def test_a_python_of_the_runtime_is_found_or_not() -> None:
    assert interpreter(HERE) == sys.executable
    assert interpreter("2.0") is None


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    write_bundle(folder / "serving" / "v1", golden_content())
    (folder / "serving" / "CURRENT").write_text("v1\n")
    (folder / "lake.json").write_text("{}")
    return folder


@pytest.mark.usefixtures("wheelhouse")
def test_the_command_packs_the_live_bundle_or_leaves_it_out(
    lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def names(*options: str) -> set[str]:
        output = tmp_path / "out" / "f.zip"
        assert main(["--lake", str(lake), "--output", str(output), *options]) == 0
        assert f"{output}: 0." in capsys.readouterr().err.replace("\n", "")
        with zipfile.ZipFile(output) as packed:
            assert packed.testzip() is None
            if "numpy/__init__.py" in packed.namelist():
                told = packed.read("numpy/__init__.py").decode()
                assert ("aarch64" in told) == ("arm64" in options)
            return {name for name in packed.namelist() if "__pycache__" not in name}

    whole = names()
    assert "numpy/__init__.py" in whole
    assert "numpy/tests/test_all.py" not in whole
    assert "bundle/manifest.json" in whole
    assert names("--arch", "arm64") == whole
    assert names("--without-bundle") == {name for name in whole if not name.startswith("bundle/")}
    assert {f"bundle/{name}" for name in names("--only-bundle")} == {
        name for name in whole if name.startswith("bundle/")
    }


def test_the_command_refuses_in_one_line(
    lake: Path, tmp_path: Path, wheelhouse: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prior = lake / "serving" / "v1" / "prior.npy"
    data = bytearray(prior.read_bytes())
    data[-1] ^= 1
    prior.write_bytes(bytes(data))
    for options, says in (
        (["--lake", str(tmp_path / "none")], "there is no lake at"),
        (["--lake", str(lake)], "does not match its checksum"),
        (["--lake", str(lake), "--python", "3.12", "--without-bundle"], "pip has no numpy"),
        (["--lake", str(lake), "--without-bundle", "--output", str(wheelhouse)], "cannot write"),
    ):
        assert main(["--output", str(tmp_path / "f.zip"), *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("lambda_package: ")
        assert says in line
    assert not (tmp_path / "f.zip").exists()
