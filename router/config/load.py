"""From a file, or a directory of them, to a ``Config`` that is known to build.

All that can be found is found at once: first the text (YAML, variables), then the fields against
the schema, then what fields say of each other. The steps build on one another, so a later one
runs only when the earlier found nothing.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from router.config import check, references
from router.config.document import MAX_BYTES, Document, read
from router.config.findings import ConfigError, Finding
from router.config.schema import Config

__all__ = ["ConfigError", "Finding", "load", "loads"]

MAX_FILES = 1000


def load(path: str | Path, env: Mapping[str, str] | None = None) -> Config:
    """Read a configuration.

    Args:
        path: a YAML file, or a directory whose ``*.yaml`` files (but ``*.test.yaml``) are merged
            in the order of their names.
        env: where ``${NAME}`` looks; the process's environment by default.

    Raises:
        ConfigError: whatever is wrong, a file that cannot be read included.
    """
    return _loads(read_texts(files_of(Path(path))), os.environ if env is None else env)


def read_texts(files: Iterable[Path]) -> dict[str, str]:
    """The files' texts by name.

    Raises:
        ConfigError: for those that cannot be read or are not UTF-8.
    """
    texts: dict[str, str] = {}
    findings: list[Finding] = []
    for file in files:
        try:
            with file.open("rb") as stream:
                texts[str(file)] = stream.read(MAX_BYTES + 1).decode("utf-8")
        except OSError as error:
            findings.append(Finding(file=str(file), message=f"cannot read: {error.strerror}"))
        except UnicodeDecodeError as error:
            findings.append(_not_utf8(str(file), error))
    if findings:
        raise ConfigError(findings)
    return texts


def _not_utf8(file: str, error: UnicodeDecodeError) -> Finding:
    before = error.object[: error.start].decode("utf-8")
    return Finding(
        file=file,
        line=before.count("\n") + 1,
        column=len(before) - before.rfind("\n"),
        message=f"not UTF-8 at byte {error.start}",
    )


def loads(text: str, name: str, env: Mapping[str, str] | None = None) -> Config:
    """Read a configuration from a text.

    Args:
        name: what findings call the text.
        env: where ``${NAME}`` looks; the process's environment by default.

    Raises:
        ConfigError: whatever is wrong.
    """
    return _loads({name: text}, os.environ if env is None else env)


def files_of(path: Path) -> list[Path]:
    """The files that make up a configuration.

    Raises:
        ConfigError: a directory without any, or with too many.
    """
    if not path.is_dir():
        return [path]
    files = sorted(p for p in path.glob("*.yaml") if not p.name.endswith(".test.yaml"))
    if not files or len(files) > MAX_FILES:
        message = f"expected 1 to {MAX_FILES} *.yaml files in the directory, found {len(files)}"
        raise ConfigError([Finding(file=str(path), message=message)])
    return files


def _loads(texts: Mapping[str, str], env: Mapping[str, str]) -> Config:
    return place(texts, env)[0]


def place(texts: Mapping[str, str], env: Mapping[str, str]) -> tuple[Config, Document]:
    """The configuration in texts by name, and the document that knows where everything stands.

    Raises:
        ConfigError: whatever is wrong.
    """
    document = read(texts, env)
    config, found = check.convert(document, Config)
    if config is not None:
        found = references.problems(config)
    if found or config is None:
        raise ConfigError(document.locate(problem) for problem in found)
    return config, document
