"""Ask the running services of a lake which version each of them serves.

Not here: the services themselves (`serve`).
"""

import time
from typing import Any

from tunegraph_pipeline.pipeline.settings import ServicesSettings


def served_by(settings: ServicesSettings, wanted: str) -> dict[str, str]:
    """The version that each service serves, or in words why it is unknown. Those that do not serve ``wanted``
    yet are asked again until the settings' patience is over."""
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
