"""How deeply JSON may nest: the same bound on every Python, whatever stands in its strings."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunegraph_pipeline.json_nesting import DEEPEST_NESTING, NestingError, check_nesting

_BRACKETS = json.dumps('\\"' + "[{" * 500).encode()


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    within = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_depth, within), default=0)


@pytest.mark.parametrize("opening", [b"[", b'{"a": '])
@pytest.mark.parametrize("value", [b"1", _BRACKETS])
def test_a_hundred_levels_are_the_most(opening: bytes, value: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    check_nesting(opening * DEEPEST_NESTING + value + closing * DEEPEST_NESTING)
    with pytest.raises(NestingError, match="deeper than 100 levels"):
        check_nesting(opening * (DEEPEST_NESTING + 1) + value + closing * (DEEPEST_NESTING + 1))


def test_levels_count_and_not_brackets() -> None:
    check_nesting(b"[" + b",".join([b'[{"a": [1, "]"]}]'] * 1_000) + b"]")
    check_nesting(b"[" * DEEPEST_NESTING + b'1, "' + b"[" * 1_000)  # no JSON: its string has no end


@given(
    st.recursive(
        st.text('[]{}"\\,: a\u0100') | st.none(),
        lambda value: st.lists(value, max_size=3) | st.dictionaries(st.text('[{"\\'), value, max_size=3),
        max_leaves=20,
    ),
    st.booleans(),
)
def test_the_levels_are_those_of_the_document(value: Any, ascii_only: bool) -> None:
    depth = _depth(value)
    # Wrapped to the bound, so that one level more is one too many.
    wraps = DEEPEST_NESTING - depth
    document = json.dumps(value, ensure_ascii=ascii_only).encode()
    check_nesting(b"[" * wraps + document + b"]" * wraps)
    with pytest.raises(NestingError):
        check_nesting(b"[" * (wraps + 1) + document + b"]" * (wraps + 1))
