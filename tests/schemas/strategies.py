"""Hypothesis strategies for msgspec structs, read from their types and limits."""

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

INT64_MAX = 2**63 - 1
TEXT = st.characters(exclude_categories=("Cs", "Cc"))
"""Characters that every field accepts: no halves of surrogate pairs (not JSON), no controls (not in ids)."""

_JSON_LEAVES = st.none() | st.booleans() | st.integers(-INT64_MAX, INT64_MAX) | st.text(TEXT, max_size=5)
_JSON = st.recursive(_JSON_LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(TEXT), inner))


def structs(struct: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Return a strategy for valid instances of a struct; text and lists stay short."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return _of_struct(info)


def _of_struct(info: inspect.StructType) -> st.SearchStrategy[Any]:
    required = {field.name: _of(field.type) for field in info.fields if field.required}
    optional = {field.name: _of(field.type) for field in info.fields if not field.required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda fields: info.cls(**fields))


def _of(info: inspect.Type) -> st.SearchStrategy[Any]:  # noqa: PLR0911, PLR0912  # one case for each kind of type
    match info:
        case inspect.Metadata(type=inner):
            return _of(inner)
        case inspect.StructType():
            return _of_struct(info)
        case inspect.StrType(min_length=low, max_length=high):
            return st.text(TEXT, min_size=low or 0, max_size=min(high or 20, 20))
        case inspect.IntType(ge=low, le=high):
            return st.integers(-INT64_MAX if low is None else low, INT64_MAX if high is None else high)
        case inspect.FloatType(ge=low, le=high):
            return st.floats(low, high, allow_nan=False, allow_infinity=False)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.UnionType(types=types):
            return st.one_of([_of(each) for each in types])
        case inspect.ListType(item_type=item):
            return st.lists(_of(item), max_size=3)
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(_of(key), _of(value), max_size=3)
        case inspect.AnyType():
            return _JSON
        case _:
            raise NotImplementedError(f"no strategy for {info}: add one here")
