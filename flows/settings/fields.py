"""What the sections of the settings are made of: kinds of values, and the base of all tables."""

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from schemas.exposure import expected_origin


def expected(what: str) -> PydanticCustomError:
    """Return the error that says what a valid value would have been."""
    return PydanticCustomError("expected", "{what}", {"what": what})


def off(value: object) -> object:
    """Return None for what a setting is switched off with."""
    return None if isinstance(value, str) and value.strip().lower() in ("off", "none", "") else value


def finite(value: float) -> float:
    """Return a number that is one."""
    if not math.isfinite(value):
        raise expected("a finite number")
    return value


def split(value: object) -> object:
    """Return the parts of a text that is a list with commas."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def origins(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return the origins of pages, if all of them are ones."""
    faults = [wanted for each in value if (wanted := expected_origin(each))]
    if faults:
        raise expected("; ".join(dict.fromkeys(faults)))
    return value


Number = Annotated[float, AfterValidator(finite)]
Seconds = Annotated[Number, Field(gt=0, le=366 * 86_400)]
Share = Annotated[Number, Field(ge=0, le=1)]
Port = Annotated[int, Field(ge=0, le=65535)]
"""A TCP port; 0 lets the system choose one."""
Host = Annotated[str, Field(min_length=1, max_length=255)]
Strings = Annotated[tuple[str, ...], BeforeValidator(split)]
"""A list; in a variable, its parts are separated by commas."""
Origins = Annotated[Strings, AfterValidator(origins)]
"""Whose pages may connect: as a browser names them."""


class Section(BaseModel):
    """A table of the file. An unknown key is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
