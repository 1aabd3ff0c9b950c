"""Bindings: callers of the outside world, each by a name in the path of its route.

Some orchestrators and registries can send no credential of ours. A binding stands for such a caller:
the settings say which principal it is, which models and actions it may speak of, and how what it sends
is known to be its own. What it may do is its system's row in the one table of permissions.

Each system has a type of its own, a `Binding` with the settings of that system. Secrets stand in files
beside this one, never in it.
"""

import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    GetCoreSchemaHandler,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import CoreSchema, core_schema

from app.decoding import decode_json, decode_yaml, pointer
from app.errors import Fault, InvalidDocument, Refusal, Unavailable
from app.parsing import Places, parse, place
from app.vocabulary import JSON, TEXT, Document, Integer, Principal, Slug

MOST_SECRET_BYTES: Final = 16 * 1024
LEAST_SECRET_BYTES: Final = 8

_OTHERS: Final = stat.S_IRWXO | stat.S_IWGRP
"""What nobody may do with a secret's file but its owner, and who its owner lets read it."""

_PATTERN: Final = r"[A-Za-z0-9*][A-Za-z0-9*._/@-]{0,199}"


class UnusableBindings(Exception):
    """Settings of bindings that cannot be used; `str()` of it says why, a line for each fault."""


class SecretFile:
    """A secret that is kept in a file of its own, and read when it is used: a file that is replaced is
    good at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"SecretFile({str(self.path)!r})"

    def read(self) -> bytes:
        """The secret, without the line's end. Raises `Unavailable` where it is not to be had."""
        try:
            return self.checked()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise Unavailable("secret", f"a secret of this binding cannot be read: {why}") from None

    def checked(self) -> bytes:
        """The same. Raises `OSError`, and `ValueError` where it is none that is kept as it should be."""
        with self.path.open("rb") as file:
            if stat.S_IMODE(self.path.stat().st_mode) & _OTHERS:
                raise ValueError("others may read or change it: take that from them (chmod 600)")
            secret = file.read(MOST_SECRET_BYTES + 1).rstrip(b"\r\n")
        if not LEAST_SECRET_BYTES <= len(secret) <= MOST_SECRET_BYTES:
            bounds = f"{LEAST_SECRET_BYTES} to {MOST_SECRET_BYTES}"
            raise ValueError(f"it does not hold {bounds} bytes")
        return secret

    def text(self) -> str:
        """The secret as text, as it stands in a header. Raises `Unavailable`."""
        try:
            return self.read().decode("ascii")
        except UnicodeDecodeError:
            raise Unavailable("secret", "a secret of this binding is not ASCII") from None

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        """Read from the absolute path of the file."""

        def of(value: str) -> SecretFile:
            path = Path(value)
            if not path.is_absolute():
                raise ValueError("must be the absolute path of a file")
            return cls(path)

        return core_schema.json_or_python_schema(
            json_schema=(
                text := core_schema.chain_schema(
                    [core_schema.str_schema(), core_schema.no_info_plain_validator_function(of)]
                )
            ),
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), text]),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda one: str(one.path)
            ),
        )


def _a_service(value: str) -> str:
    if not value.startswith("service:"):
        raise ValueError("must be a service: nobody else is there when it calls")
    return value


def _a_pattern(value: str) -> str:
    try:
        TypeAdapter(Annotated[str, Field(pattern=f"^{_PATTERN}$")]).validate_python(value)
    except ValidationError:
        raise ValueError("must be a model version, in which `*` stands for anything") from None
    return value


ModelPattern = Annotated[str, AfterValidator(_a_pattern)]
"""Model versions: `claude-*@*`. `*` stands for any characters, also for none."""


class Binding(Document):
    """A caller of one system. `models`: which model versions it may speak of; `requests_per_minute`: how
    often it may call each process of the service.
    """

    name: Slug
    system: Slug
    principal: Annotated[Principal, AfterValidator(_a_service)]
    models: Annotated[tuple[ModelPattern, ...], Field(min_length=1)]
    requests_per_minute: Annotated[Integer, Field(ge=1, le=1_000_000)] = 1200

    @property
    def actor(self) -> str:
        """As whom records name it: the principal, and the binding that let it in."""
        return f"{self.principal}/binding_{self.name}"

    def speaks_of(self, model: str) -> bool:
        """Whether it may speak of that model version."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)


class AskingBinding(Binding):
    """A caller that asks whether something may go ahead. `actions`: about which it may ask."""

    actions: Annotated[tuple[Slug, ...], Field(min_length=1)]


B = TypeVar("B", bound=Binding)


def system_of(kind: type[Binding]) -> str:
    """Which system the bindings of a type are of: each says it as the one literal of its `system`."""
    (name,) = get_args(kind.model_fields["system"].annotation)
    return str(name)


class Bindings:
    """The bindings that there are, by name. Without a file there is none."""

    def __init__(self, bindings: Iterable[Binding] = ()) -> None:
        self._by_name = {one.name: one for one in bindings}

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def named(self, name: str) -> Binding | None:
        """The binding of that name, whatever its system."""
        return self._by_name.get(name)

    def find(self, kind: type[B], name: str) -> B | None:
        """The binding of that name, where it is of that system."""
        found = self._by_name.get(name)
        return found if isinstance(found, kind) else None


class _BindingsFile(Document):
    bindings: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class _File:
    entries: tuple[dict[str, Any], ...]
    context: Mapping[str, str]
    places: Places


def read_bindings(
    text: bytes, kinds: Iterable[type[Binding]], *, as_json: bool = False
) -> Bindings:
    """The bindings that a file of settings names, in YAML or JSON; *kinds*: one type a system. All of
    their secrets are read once, so that a missing one is told now. Raises `UnusableBindings`.
    """
    by_system = {system_of(kind): kind for kind in kinds}
    try:
        file = _decoded(text, as_json=as_json)
        faults: list[Fault] = []
        read: list[Binding] = []
        for number, entry in enumerate(file.entries):
            try:
                read.append(_one(entry, by_system, file.context))
            except InvalidDocument as invalid:
                at = pointer("bindings", number)
                faults += [Fault(at + f.pointer, f.code, f.message) for f in invalid.faults]
        names = [entry.get("name") for entry in file.entries]
        for number, name in enumerate(names):
            if name is not None and name in names[:number]:
                at = pointer("bindings", number, "name")
                faults.append(Fault(at, "repeated", f"`{name}` is the name of another binding"))
        if faults:
            placed = [place(fault, file.places) for fault in faults]
            raise InvalidDocument(tuple(sorted(placed, key=lambda f: (f.line or 0, f.pointer))))
    except InvalidDocument as invalid:
        raise UnusableBindings("\n".join(map(_told, invalid.faults))) from None
    except Refusal as refusal:
        raise UnusableBindings(str(refusal)) from None
    return Bindings(read)


def _decoded(text: bytes, *, as_json: bool) -> _File:
    if as_json:
        said = parse(TypeAdapter(_BindingsFile), decode_json(text), JSON)
        return _File(said.bindings, JSON, {})
    read = decode_yaml(text)
    said = parse(TypeAdapter(_BindingsFile), read.value, TEXT, read.places)
    return _File(said.bindings, TEXT, read.places)


def _one(
    entry: Mapping[str, Any], by_system: Mapping[str, type[Binding]], context: Mapping[str, str]
) -> Binding:
    system = entry.get("system")
    kind = by_system.get(system) if isinstance(system, str) else None
    if kind is None:
        known = ", ".join(f"`{name}`" for name in sorted(by_system))
        raise InvalidDocument((Fault("/system", "unknown-value", f"must be one of {known}"),))
    binding = parse(TypeAdapter(kind), entry, context)
    if faults := tuple(_faulty_secrets(binding, "")):
        raise InvalidDocument(faults)
    return binding


def _faulty_secrets(value: object, at: str) -> Iterator[Fault]:
    if isinstance(value, SecretFile):
        try:
            value.checked()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            yield Fault(at, "unusable-secret", f"`{value.path}`: {why}")
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _faulty_secrets(getattr(value, name), at + pointer(name))
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _faulty_secrets(item, at + pointer(number))


def _told(fault: Fault) -> str:
    line = "" if fault.line is None else f"{fault.line}:{fault.column}: "
    return f"{line}{fault.pointer or 'document'}: {fault.message}"
