"""Reads the phrase lists, checked and typed: data that a support lead may edit is told where it is wrong."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from operators.chat.text import read
from schemas.errors import ConfigError

FOLDER: Final = Path(__file__).parents[1] / "rules"
"""Where the lists of every language lie."""

Phrase = Annotated[str, Meta(min_length=1, max_length=200)]
Language = Annotated[str, Meta(pattern="^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]

EXCLUSIVE: Final = (("hedging", "assertive"), ("human", "not_human"))
"""Lists that mean the contrary of each other: no phrase stands in both."""


@dataclass(frozen=True)
class Phrases:
    """The lists of all languages together; ``rules/phrases.toml`` says what each is for.

    ``domains`` are the words of each high-stakes domain, ``disclaimers`` the text of each language.
    """

    hedging: tuple[str, ...] = ()
    assertive: tuple[str, ...] = ()
    vague: tuple[str, ...] = ()
    deflections: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    human: tuple[str, ...] = ()
    not_human: tuple[str, ...] = ()
    human_alone: tuple[str, ...] = ()
    greetings: tuple[str, ...] = ()
    thanks: tuple[str, ...] = ()
    courtesies: tuple[str, ...] = ()
    question_words: tuple[str, ...] = ()
    months: tuple[str, ...] = ()
    months_beside_number: tuple[str, ...] = ()
    weekdays: tuple[str, ...] = ()
    domains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    disclaimers: Mapping[str, str] = field(default_factory=dict)


LISTS: Final = tuple(f.name for f in fields(Phrases) if f.name not in ("domains", "disclaimers"))
"""The names of the plain lists."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file of one language."""

    language: Language
    disclaimer: Annotated[str, Meta(min_length=1, max_length=2000)]
    hedging: tuple[Phrase, ...] = ()
    assertive: tuple[Phrase, ...] = ()
    vague: tuple[Phrase, ...] = ()
    deflections: tuple[Phrase, ...] = ()
    depends: tuple[Phrase, ...] = ()
    human: tuple[Phrase, ...] = ()
    not_human: tuple[Phrase, ...] = ()
    human_alone: tuple[Phrase, ...] = ()
    greetings: tuple[Phrase, ...] = ()
    thanks: tuple[Phrase, ...] = ()
    courtesies: tuple[Phrase, ...] = ()
    question_words: tuple[Phrase, ...] = ()
    months: tuple[Phrase, ...] = ()
    months_beside_number: tuple[Phrase, ...] = ()
    weekdays: tuple[Phrase, ...] = ()
    domains: dict[str, tuple[Phrase, ...]] = msgspec.field(default_factory=dict)


def phrase_files(folder: Path = FOLDER) -> list[Path]:
    """Return the phrase files of a folder: ``phrases.toml`` first, then those of further languages by name."""
    return [folder / "phrases.toml", *sorted(folder.glob("phrases.*.toml"))]


def read_phrases(files: Iterable[Path] | None = None) -> Phrases:
    """Read phrase files (default: all that come with Attune) and put their lists together.

    Raises:
        ConfigError: a file can't be read or doesn't fit; all faults of all files, each with file and key.
    """
    faults: list[str] = []
    languages: dict[str, _File] = {}
    for file in phrase_files() if files is None else files:
        found = _load(file, faults)
        if found is None:
            continue
        if found.language in languages:
            faults.append(f'{file}: language: expected one file for a language, got a second for "{found.language}"')
        languages[found.language] = found
        faults += [f"{file}: {fault}" for fault in _faults(found)]
    if not faults:
        faults += [f"phrase files together: {fault}" for fault in _contrary(languages.values())]
    if faults:
        raise ConfigError("\n".join(faults))
    return _together(languages)


def _load(file: Path, faults: list[str]) -> _File | None:
    try:
        return msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), _File)
    except OSError as error:
        faults.append(f"{file}: can't be read: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        faults.append(f"{file}: expected TOML in UTF-8: {error}")
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        faults.append(f"{file}: {path.strip('.`') or 'the whole file'}: {what}")
    return None


def _faults(found: _File) -> Iterator[str]:
    """Yield what a file's types can't say: phrases without a word, and repeats."""
    lists = {name: getattr(found, name) for name in LISTS} | {f"domains.{k}": v for k, v in found.domains.items()}
    for name, phrases in lists.items():
        seen: dict[tuple[str, ...], str] = {}
        for at, phrase in enumerate(phrases):
            words = tuple(read(phrase).tokens)
            if not words:
                yield f'{name}[{at}]: expected a phrase with a letter or digit, got "{phrase}"'
            elif words in seen:
                yield f'{name}[{at}]: "{phrase}" is there already, as "{seen[words]}"'
            seen.setdefault(words, phrase)
    yield from _contrary([found])


def _contrary(files: Iterable[_File]) -> Iterator[str]:
    files = list(files)
    for one, other in EXCLUSIVE:
        words = {tuple(read(phrase).tokens) for file in files for phrase in getattr(file, one)}
        for phrase in (phrase for file in files for phrase in getattr(file, other)):
            if tuple(read(phrase).tokens) in words:
                yield f'{other}: "{phrase}" stands in {one} too, which means the contrary'


def _together(languages: Mapping[str, _File]) -> Phrases:
    files = languages.values()
    lists = {name: tuple(dict.fromkeys(p for file in files for p in getattr(file, name))) for name in LISTS}
    domains: dict[str, tuple[str, ...]] = {}
    for file in files:
        for domain, words in file.domains.items():
            domains[domain] = tuple(dict.fromkeys((*domains.get(domain, ()), *words)))
    return Phrases(**lists, domains=domains, disclaimers={name: f.disclaimer for name, f in languages.items()})
