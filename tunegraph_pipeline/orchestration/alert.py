"""Alert that a run failed: one JSON document, posted to an address in the environment.

Here: the document, and posting it. Not here: when (`automation`). The address is a secret, since it lets
anyone post to the channel behind it: it is in no log, message or metadata.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dagster import DagsterEvent, RunFailureSensorContext
from tenacity import RetryError, Retrying, retry_if_result, stop_after_attempt, wait_random_exponential

from tunegraph_pipeline.errors import LakeError

WEBHOOK_VARIABLE = "TUNEGRAPH_ALERT_WEBHOOK"
_TIMEOUT = (5.0, 10.0)  # to connect, between bytes
_ATTEMPTS = 4
_LONGEST_LINE = 300
_OURS = "tunegraph_pipeline."
"""How the messages of errors written for people begin in Dagster's events."""


def about_failure(context: RunFailureSensorContext, lake: Path) -> dict[str, Any]:
    """The alert for a failed run; ``text`` is all a chat needs (Slack and others show that field).

    The other fields: job, run_id, partitions (null for a run without), lake (the name of its folder), error
    (one line), will_retry and time (ISO 8601, UTC).
    """
    run = context.dagster_run
    tags = run.tags
    first, last = (tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
    partitions = tags.get("dagster/partition") or (first if first == last else f"{first} to {last}")
    error = error_line(context.get_step_failure_events(), context.failure_event)
    will_retry = tags.get("dagster/will_retry") == "true"
    name = lake.resolve().name
    text = f"TuneGraph: {run.job_name} of lake {name}"
    text += f", {partitions}," if partitions else ""
    text += f" failed: {error} (run {run.run_id[:8]}" + ("; it will be retried)" if will_retry else ")")
    return {
        "text": text,
        "job": run.job_name,
        "run_id": run.run_id,
        "partitions": partitions,
        "lake": name,
        "error": error,
        "will_retry": will_retry,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def error_line(steps: Sequence[DagsterEvent], run: DagsterEvent) -> str:
    """The first error, in one line; errors written for people without the name of their class."""
    messages = [run.message or "the run failed"]
    failure = steps[0].step_failure_data.error if steps else run.job_failure_data.error
    while failure is not None:
        messages.append(failure.message)
        failure = failure.cause
    # Dagster's own error wraps what the asset raised, which may have a cause of its own.
    ours = [message for message in messages if message.startswith(_OURS)]
    message = ours[0].partition(": ")[2] if ours else messages[min(2, len(messages) - 1)]
    line = " ".join(message.split())
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"


def send(url: str, document: dict[str, Any], *, pause: float = 1.0) -> None:
    """Post ``document`` to ``url``; a failed attempt is repeated after ``pause`` seconds and more. Raises
    LakeError, without the address, if no attempt succeeds."""
    retrying = Retrying(
        retry=retry_if_result(lambda refusal: refusal is not None),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=pause, max=10),
    )
    try:
        retrying(_post, url, document)
    except RetryError as error:
        refusal = error.last_attempt.result()
    else:
        return
    # Outside the handler: the traceback must not lead to an exception that holds the address.
    raise LakeError(
        f"the webhook in {WEBHOOK_VARIABLE} did not accept the alert: {refusal}, {_ATTEMPTS} times"
    )


def _post(url: str, document: dict[str, Any]) -> str | None:
    """Post once; returns None, or why it failed."""
    import requests

    try:
        # Only the status matters; the body may be endless.
        with requests.post(
            url, json=document, timeout=_TIMEOUT, allow_redirects=False, stream=True
        ) as answer:
            accepted = answer.ok and not answer.is_redirect
            return None if accepted else f"status {answer.status_code}"
    except (requests.RequestException, ValueError) as error:
        return f"no answer ({type(error).__name__})"
