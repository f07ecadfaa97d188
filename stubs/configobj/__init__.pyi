from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from configobj.validate import Validator

class ConfigObjError(SyntaxError):
    line_number: int
    errors: list[ConfigObjError]

class Section(dict[str, Any]):
    scalars: list[str]
    sections: list[str]
    comments: dict[str, list[str]]
    def __iter__(self) -> Iterator[str]: ...

class ConfigObj(Section):
    initial_comment: list[str]
    def __init__(
        self,
        infile: str | Iterable[str] | Mapping[str, Any] | None = ...,
        *,
        configspec: ConfigObj | Iterable[str] | None = ...,
        interpolation: bool | str = ...,
        raise_errors: bool = ...,
        list_values: bool = ...,
        _inspec: bool = ...,
    ) -> None: ...
    def validate(
        self, validator: Validator, preserve_errors: bool = ..., copy: bool = ..., section: Section | None = ...
    ) -> bool | dict[str, Any]: ...

def flatten_errors(
    cfg: ConfigObj, res: bool | dict[str, Any]
) -> list[tuple[list[str], str | None, Exception | bool]]: ...
