"""The AWS Lambda handler for recommendations, behind API Gateway, a function URL or a load balancer.

Here: events in, responses out, in the format of the 2022 service or in TuneGraph's own. Not here: fetching a
bundle (`bundle_fetch`, `lake_bundle`), building the zip (`package`), or answering (`recommend`). Only numpy
and the standard library. Each container opens a bundle once and maps it, so a query reads only the pages it
needs.

    GET  ?likes=ID,ID&k=10      gives {"count": 10, "music": [{"musicId": …}, …], "message": "ok"}
    POST {"likes": ["ID"], "format": "tunegraph"}   gives {"bundle_version": …, "items": [{…}, …], …}

The path is ignored: the gateway decides what reaches the function. Settings are environment variables:
`TUNEGRAPH_BUNDLE`, the folder of a bundle (default: `bundle/` beside the code); `TUNEGRAPH_BUNDLE_URL`, the
address to fetch one from instead; `TUNEGRAPH_LAKE`, a lake in an object store whose live bundle is followed,
and `TUNEGRAPH_RELOAD_SECONDS`, how often it is looked for; `TUNEGRAPH_CORS_ORIGIN`, the origin whose pages
may call the function.
"""

import base64
import binascii
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_plus

from tunegraph_pipeline.errors import InputError, TuneGraphError
from tunegraph_pipeline.ids import MOST_ID_BYTES, is_too_long
from tunegraph_pipeline.json_nesting import check_nesting
from tunegraph_pipeline.serve.limits import MOST_BODY_BYTES, MOST_K, MOST_LISTED
from tunegraph_pipeline.song_ids import SERVICES

if TYPE_CHECKING:
    from tunegraph_pipeline.recommend.recommender import Recommendations, Recommender, SongView

# A function has a share of one core. Threads would cost memory and save no time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

SEED, TUNEGRAPH = "seed", "tunegraph"
"""The formats of a response: that of the 2022 service, the default, and ours. `format` selects one."""
DEFAULT_K = {SEED: 30, TUNEGRAPH: 10}

_LISTS = ("likes", "dislikes", "exclude")
_SHARES = ("familiarity", "diversity")
_COUNTS = ("k", "max_per_artist")
_SWITCHES = ("explicit", "only_with_preview")
_SERVICE = "links"
_MODE = "mode"
_RECENCY = "recency"
_FIELDS = (*_LISTS, *_SHARES, *_COUNTS, *_SWITCHES, _SERVICE, _MODE, _RECENCY)
_VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._=:/+-]{1,128}")

_log = logging.getLogger("tunegraph")


class _HttpError(Exception):
    """An error response other than 400: its status, and one line for the client."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class _Request(NamedTuple):
    """The HTTP request in an event of any format.

    ``query`` has one text per name, with repeats joined by commas. Header names are in lower case.
    """

    method: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    request_id: str


def lambda_handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Answer an event of API Gateway (REST, format 1.0, or HTTP, format 2.0), of a function URL, or of an
    application load balancer (ALB).

    Returns a response with ``statusCode``, ``headers``, ``body`` and ``isBase64Encoded``. Never raises: a
    request that fails gets a 4xx or 5xx status and one line saying why. Details of internal errors go only to
    the function's log.
    """
    answer = _answer(event, context)
    return _for_load_balancer(event, answer) if _is_of_load_balancer(event) else answer


def _answer(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    shape, request_id = SEED, str(getattr(context, "aws_request_id", "") or "")
    try:
        request = _parse_event(event)
        request_id = request.request_id or request_id
        if request.method == "OPTIONS":
            return _response(HTTPStatus.NO_CONTENT, None, request_id, {"Allow": "GET, POST, OPTIONS"})
        # Read first, so that an error response already has the requested format.
        shape = _shape(request.query.get("format", SEED))
        parameters = _parameters(request)
        shape = _shape(parameters.pop("format", SEED))
        for name, value in parameters.items():
            _validate(name, value)
        return _response(HTTPStatus.OK, _recommend(parameters, shape), request_id)
    except _HttpError as error:
        status, detail = error.status, error.detail
    except InputError as error:
        status, detail = HTTPStatus.BAD_REQUEST, str(error)
    except TuneGraphError as error:
        _log.error("no bundle to answer from: %s", error)  # clear without a traceback
        status = HTTPStatus.SERVICE_UNAVAILABLE
        detail = "no bundle is available at present; the function's log says why"
    except Exception:  # noqa: BLE001  # the client gets a response, the log the traceback
        _log.exception("request %s failed", request_id)
        status, detail = HTTPStatus.INTERNAL_SERVER_ERROR, "the function failed; its log says where"
    return _error_response(status, detail, shape, request_id)


# --- the recommender, one per container ---


def current_recommender() -> "Recommender":
    """The recommender to answer a request: over the live bundle of the lake that the environment names, if it
    names one, else :func:`recommender`. Raises BundleError."""
    if address := os.environ.get("TUNEGRAPH_LAKE"):
        from tunegraph_pipeline.serve.aws_lambda.lake_bundle import followed

        return _of_lake(followed(address).folder())
    return recommender()


@lru_cache(maxsize=1)
def _of_lake(folder: Path) -> "Recommender":
    return _opened(folder)


@cache
def recommender() -> "Recommender":
    """The recommender over the bundle that the environment names, opened at the first call and kept.

    Raises BundleError if there is no usable bundle; the next call tries again.
    """
    if address := os.environ.get("TUNEGRAPH_BUNDLE_URL"):
        from tunegraph_pipeline.serve.aws_lambda.bundle_fetch import fetch_bundle

        folder = fetch_bundle(address)
    else:
        folder = Path(os.environ.get("TUNEGRAPH_BUNDLE") or Path(__file__).parents[3] / "bundle")
    return _opened(folder)


def _opened(folder: Path) -> "Recommender":
    from tunegraph_pipeline.recommend.bundle import Bundle
    from tunegraph_pipeline.recommend.recommender import Recommender

    return Recommender(Bundle.open(folder))


def _warm_up() -> None:
    """Open the bundle and run one query while the container starts, when Lambda gives it a whole core."""
    with suppress(Exception):  # the first request tries again and reports the error
        ready = current_recommender()
        popular = ready.bundle.popular_order[:1]
        ready.recommend([ready.bundle.tracks[track] for track in popular.tolist()])


# --- reading an event ---


def _parse_event(event: Mapping[str, Any]) -> _Request:
    try:
        headers = {name.lower(): value for name, value in _headers(event).items() if value}
        about = event.get("requestContext") or {}
        method: str = event.get("httpMethod") or about["http"]["method"]
        several = event.get("multiValueQueryStringParameters")
        query: dict[str, str] = dict(event.get("queryStringParameters") or {})
        if (
            several
        ):  # in format 1.0 `queryStringParameters` has only the last of repeats; format 2.0 joins them
            query = {name: ",".join(values) for name, values in several.items()}
        if _is_of_load_balancer(event):  # it leaves names and values as they are in the address
            query = {unquote_plus(name): unquote_plus(value) for name, value in query.items()}
        if not method or not all(isinstance(value, str) for value in query.values()):
            raise ValueError(method)  # noqa: TRY301  # answered like every malformed event
        own = headers.get("x-request-id", "")
        request_id = own if _VALID_REQUEST_ID.fullmatch(own) else str(about.get("requestId") or "")
        return _Request(method.upper(), query, headers, _body(event), request_id)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            "this is not an event of API Gateway, of a function URL or of a load balancer"
        ) from None


def _is_of_load_balancer(event: Mapping[str, Any]) -> bool:
    try:
        return "elb" in event["requestContext"] and "httpMethod" in event
    except (KeyError, TypeError):
        return False


def _headers(event: Mapping[str, Any]) -> Mapping[str, str]:
    """One text a header. A load balancer may be set to give a list of values for each, and nothing else."""
    several = event.get("multiValueHeaders") or {}
    return event.get("headers") or {name: values[-1] for name, values in several.items() if values}


def _for_load_balancer(event: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """The response with what a load balancer asks for besides: a description of the status, and lists of
    header values where the event had these."""
    status = HTTPStatus(answer["statusCode"])
    answer["statusDescription"] = f"{int(status)} {status.phrase}"
    if "multiValueHeaders" in event:
        answer["multiValueHeaders"] = {name: [value] for name, value in answer.pop("headers").items()}
    return answer


def _body(event: Mapping[str, Any]) -> bytes:
    text = event.get("body") or ""
    # Base64 is a third longer than what it encodes.
    if len(text) > MOST_BODY_BYTES * (4 / 3 if event.get("isBase64Encoded") else 1) + 4:
        raise _HttpError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is longer than {MOST_BODY_BYTES} bytes"
        )
    if not event.get("isBase64Encoded"):
        return str(text).encode(errors="surrogatepass")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError("the body is marked as base64 but is not") from None


def _parameters(request: _Request) -> dict[str, Any]:
    """The parameters of a request; those in the body override those in the query string."""
    if request.method not in ("GET", "POST"):
        raise _HttpError(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.method} is not one of GET and POST")
    parameters: dict[str, Any] = {name: _parse_parameter(name, text) for name, text in request.query.items()}
    if request.method == "POST" and request.body:
        parameters |= _json_object(request.body)
    return parameters


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        check_nesting(body)
        given = json.loads(body)
    except ValueError:
        raise InputError("the body is not JSON in UTF-8") from None
    if not isinstance(given, dict):
        raise InputError('the body has to be an object, such as {"likes": ["ID"]}')
    return given


def _parse_parameter(name: str, text: str) -> object:
    """The typed value of a query parameter, or its text if it cannot be parsed; `_validate` rejects that."""
    if name in _LISTS:
        return [part for part in (part.strip() for part in text.split(",")) if part]
    if name in _SWITCHES:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    with suppress(ValueError):
        if name in _COUNTS:
            return int(text)
        if name in (*_SHARES, _RECENCY):
            return float(text)
    return text


def _validate(name: str, value: object) -> None:
    """Raise InputError for an unknown parameter or an invalid value."""
    if name not in _FIELDS:
        raise InputError(f"{_shown(name)} is not one of {', '.join(_FIELDS)} and format")
    if name in _LISTS:
        error = _list_error(value)
    elif name in _COUNTS:
        error = "" if name != "k" and value is None else _count_error(value)
    elif name in _SHARES:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        error = "" if number and 0 <= value <= 1 else "has to be a number from 0 to 1"  # type: ignore[operator]
    elif name == _SERVICE:
        error = "" if value is None or value in SERVICES else f"has to be one of {', '.join(SERVICES)}"
    elif name == _MODE:
        error = "" if value in (None, "mix", "continue") else "has to be mix or continue"
    elif name == _RECENCY:
        number = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
        error = "" if number else "has to be a number"
    else:
        error = "" if isinstance(value, bool) else "has to be true or false"
    if error:
        raise InputError(f"{name} {error}")


def _list_error(value: object) -> str:
    """What is wrong with a list of ids, "" if nothing."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        return "has to be a list of track ids"
    if len(value) > MOST_LISTED:
        return f"has {len(value)} ids; {MOST_LISTED} are the most"
    if any(not one or is_too_long(one) for one in value):
        return f"has an id that is empty or longer than {MOST_ID_BYTES:,} bytes"
    return ""


def _count_error(value: object) -> str:
    """What is wrong with a number of songs, "" if nothing."""
    if not isinstance(value, int) or isinstance(value, bool):
        return "has to be a whole number"
    return "" if 1 <= value <= MOST_K else f"is {_shown(value)}; it goes from 1 to {MOST_K}"


def _shape(value: object) -> str:
    if value not in (SEED, TUNEGRAPH):
        raise InputError(f"format has to be {SEED} or {TUNEGRAPH}")
    return str(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


# --- answering ---


def _recommend(parameters: dict[str, Any], shape: str) -> dict[str, Any]:
    k = parameters.pop("k", DEFAULT_K[shape])
    only_with_preview = parameters.pop("only_with_preview", False)
    likes: Sequence[str] = parameters.pop("likes", [])
    ready = current_recommender()
    found = ready.recommend(likes, k, **parameters)
    if only_with_preview:
        found = _with_previews(ready, found, likes, k, parameters)
    return _seed_content(ready, found) if shape == SEED else found.shown(ready.bundle.model_version)


def _with_previews(
    ready: "Recommender", found: "Recommendations", likes: Sequence[str], k: int, parameters: dict[str, Any]
) -> "Recommendations":
    """The best k songs that have a preview, ranking more songs until there are k."""
    from dataclasses import replace

    ranked, bundle = k, ready.bundle
    while True:
        playable = [item for item in found.items if item.song.preview_url]
        no_more = len(found.items) < ranked or not bundle.preview_urls.bytes.size
        if len(playable) >= k or no_more:
            return replace(found, items=playable[:k])
        ranked *= 4
        found = ready.recommend(likes, ranked, **parameters)


def _seed_content(ready: "Recommender", found: "Recommendations") -> dict[str, Any]:
    message = found.degraded or "ok"
    if found.unknown and not found.degraded:
        message = f"not known of the given songs: {len(found.unknown)}"
    music = [
        {
            "musicId": song.track_id,
            "musicName": song.name,
            "artistName": _first_artist(ready, song),
            "imageUrl": song.image_url,
            "musicUrl": song.preview_url,
        }
        for song, _, _ in found.items
    ]
    return {"count": len(music), "music": music, "message": message}


def _first_artist(ready: "Recommender", song: "SongView") -> str:
    start, end = ready.bundle.artist_indptr[song.track_idx : song.track_idx + 2].tolist()
    return ready.bundle.artist_names[int(ready.bundle.artist_indices[start])] if end > start else song.artists


def _error_response(status: HTTPStatus, detail: str, shape: str, request_id: str) -> dict[str, Any]:
    headers = {"Allow": "GET, POST, OPTIONS"} if status == HTTPStatus.METHOD_NOT_ALLOWED else {}
    if shape == SEED:
        return _response(status, {"count": 0, "music": [], "message": detail}, request_id, headers)
    problem = {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
        "request_id": request_id,
    }
    return _response(status, problem, request_id, {"Content-Type": "application/problem+json", **headers})


def _response(
    status: HTTPStatus,
    content: dict[str, Any] | None,
    request_id: str,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    all_headers = {"X-Request-ID": request_id} if request_id else {}
    if content is not None:
        all_headers["Content-Type"] = "application/json"
    if origin := os.environ.get("TUNEGRAPH_CORS_ORIGIN"):
        all_headers |= {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Allow-Headers": "Content-Type, X-Request-ID",
            "Vary": "Origin",
        }
    return {
        "statusCode": int(status),
        "headers": {**all_headers, **(headers or {})},
        # json.dumps escapes to ASCII, so that an unknown id with a lone surrogate can be written.
        "body": "" if content is None else json.dumps(content),
        "isBase64Encoded": False,
    }


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _warm_up()
