"""The running services that a lake's bundles are for, and which version each of them serves.

Here: asking them. Not here: the service itself (`serve`).
"""

import time
from typing import Any

from tunegraph_pipeline.pipeline.settings import ServicesSettings


def served_by(settings: ServicesSettings, wanted: str) -> dict[str, str]:
    """What each service says: the version it serves, or in words why it does not say.

    Those that do not serve ``wanted`` yet are asked again until the patience is over.
    """
    until = time.monotonic() + settings.patience
    answers = {url: _version(url) for url in settings.urls}
    while any(version != wanted for version in answers.values()) and time.monotonic() < until:
        time.sleep(min(0.5, settings.patience))
        answers = {url: _version(url) if version != wanted else version for url, version in answers.items()}
    return answers


def _version(url: str) -> str:
    import requests

    try:
        answer = requests.get(f"{url.rstrip('/')}/version", timeout=5)
        answer.raise_for_status()
        said: Any = answer.json()
        return str(said["bundle_version"])
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        return f"no version ({type(error).__name__})"
