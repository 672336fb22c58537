"""Say in one line what is wrong with the settings in `lake.json`.

Here: unknown sections and keys with the nearest known name, and wrong values. Not here: the settings
themselves (`pipeline.settings` and the models of its sections), or when they are checked (`lake`).
"""

from collections.abc import Sequence
from difflib import get_close_matches
from inspect import isclass

from pydantic import BaseModel, ValidationError

from tunegraph_pipeline.words import in_plain_words


def settings_problem(model: type[BaseModel], error: ValidationError, section: str | None = None) -> str:
    """The first problem of ``error``, which validating ``model`` raised: as ``settings.graph: held_out: …``,
    or ``settings.trainig is no section; did you mean training?``.

    ``section`` names the section that ``model`` stands for; None: ``model`` has a field for each section. An
    unknown name is reported before a wrong value, since a value is often missing because its name is
    misspelt.
    """
    problems = error.errors()
    unknown = [problem for problem in problems if problem["type"] == "extra_forbidden"]
    problem = (unknown or problems)[0]
    inside = [str(part) for part in problem["loc"]]
    path = inside if section is None else [section, *inside]
    if not unknown:
        key = ".".join(path[1:])
        return ": ".join(
            part for part in (f"settings.{path[0]}", key, in_plain_words(problem["msg"])) if part
        )
    what = "section" if len(path) == 1 else "setting"
    return f"settings.{'.'.join(path)} is no {what}; {_known_instead(inside[-1], _names(model, inside[:-1]))}"


def _names(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The names of the fields of ``model``, or of the model at ``path`` below it; empty if there is none."""
    for name in path:
        field = model.model_fields.get(name)
        if field is None or not isclass(field.annotation) or not issubclass(field.annotation, BaseModel):
            return []
        model = field.annotation
    return list(model.model_fields)


def _known_instead(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known are {', '.join(known)}" if known else "remove it"
