"""YAML to plain data that remembers where everything stood.

Only YAML 1.2's core types are recognised: ``on``, ``off`` and ``yes`` are words, ``1:30`` is not
a number. Duplicate keys are errors. ``${ENV}`` in a scalar is replaced, and such a scalar is
whatever its field expects, quoted or not; nothing that a variable holds is read as YAML.
Nesting, size and what aliases expand to are bounded.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml
from yaml.error import Mark

from router.config.findings import ConfigError, Finding, Path, Problem, render

MAX_BYTES = 8 * 1024 * 1024
MAX_NODES = 400_000
"""Aliases may repeat a part, but ten lines must not become a billion values."""
MAX_DEPTH = 32

_INT = re.compile(r"[-+]?[0-9]{1,18}", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(?:[0-9]{1,18}\.[0-9]{0,18}|\.[0-9]{1,18}|[0-9]{1,18})(?:[eE][-+]?[0-9]{1,3})?", re.ASCII
)
_WORDS: Mapping[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_VARIABLE = re.compile(r"\$(?:\$|\{([^}]*)\}|\{)")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.ASCII | re.DOTALL)


class _Loader(yaml.SafeLoader):
    """Composes nodes and resolves nothing: types are decided here, after substitution."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012


class Document(msgspec.Struct, frozen=True):
    """One configuration, from one text or several merged.

    ``data`` holds dicts with string keys, lists and scalars. ``values`` and ``keys`` are the
    places where a path's value and its field name stand. ``expanded``: the values that came, in
    part at least, from the environment; they are texts here.
    """

    name: str
    data: Any
    values: dict[Path, Mark]
    keys: dict[Path, Mark]
    expanded: frozenset[Path]

    def locate(self, problem: Problem) -> Finding:
        """The finding with file, line and column: of the nearest part that stands in the text."""
        written: Path = ()
        for part in problem.path:
            if (*written, part) in self.values:
                written = (*written, part)
            elif part != 0:  # a single item may stand without its list
                break
        at_key = problem.at_key and len(written) and written[-1] == problem.path[-1]
        mark = self.keys.get(written) if at_key else None
        return _finding(mark or self.values.get(written), self.name, problem)


def _finding(mark: Mark | None, name: str, problem: Problem) -> Finding:
    return Finding(
        file=str(mark.name) if mark is not None else name,
        line=mark.line + 1 if mark is not None else 1,
        column=mark.column + 1 if mark is not None else 1,
        path=render(problem.path),
        message=problem.message,
        suggestion=problem.suggestion,
    )


def read(
    texts: Mapping[str, str], env: Mapping[str, str], list_field: str | None = None
) -> Document:
    """Parse and merge texts, by name in the given order.

    At the top, lists of several texts are joined; any other field may stand in one of them.
    With ``list_field``, a text that is a list as a whole stands for that field.

    Raises:
        ConfigError: text that is not YAML, duplicate keys, unset variables.
    """
    roots: list[yaml.MappingNode] = []
    findings: list[Finding] = []
    for name, text in texts.items():
        try:
            root = _compose(name, text, list_field)
        except ConfigError as error:
            findings.extend(error.findings)
            continue
        if root is not None:
            roots.append(root)
    if findings:
        raise ConfigError(findings)
    reader = _Reader(env)
    name = next(iter(texts), "")
    if not roots:
        raise ConfigError([Finding(file=name, line=1, column=1, message="the file is empty")])
    data = reader.take(roots[0] if len(roots) == 1 else reader.merge(roots), ())
    document = Document(name, data, reader.values, reader.keys, frozenset(reader.expanded))
    if reader.findings:
        raise ConfigError(reader.findings)
    return document


def _compose(name: str, text: str, list_field: str | None) -> yaml.MappingNode | None:
    def fault(message: str, mark: Mark | None = None) -> ConfigError:
        return ConfigError([_finding(mark, name, Problem((), message))])

    if len(text) > MAX_BYTES:
        raise fault(f"a configuration file is at most {MAX_BYTES} bytes")
    try:
        loader = _Loader(text)
        loader.name = name
        root = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        mark = Mark(name, 0, before.count("\n"), len(before) - before.rfind("\n") - 1, None, 0)
        raise fault("not YAML: a character that is not allowed in YAML", mark) from None
    except yaml.MarkedYAMLError as error:
        raise fault(*_yaml_problem(error, text)) from None
    except RecursionError:
        raise fault(f"nested too deeply; at most {MAX_DEPTH} levels") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise fault(f"not YAML: {error}") from None
    if root is None or (isinstance(root, yaml.ScalarNode) and root.value in ("", "~", "null")):
        return None
    if list_field is not None and isinstance(root, yaml.SequenceNode):
        key = yaml.ScalarNode("tag:yaml.org,2002:str", list_field, root.start_mark)
        root = yaml.MappingNode(
            "tag:yaml.org,2002:map", [(key, root)], root.start_mark, root.end_mark
        )
    if not isinstance(root, yaml.MappingNode):
        raise fault("a configuration is a mapping of fields", root.start_mark)
    return root


def resolve(text: str) -> Any:
    """What a plain scalar stands for: nothing, a truth value, a number or a text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _yaml_problem(error: yaml.MarkedYAMLError, text: str) -> tuple[str, Mark | None]:
    mark = error.problem_mark or error.context_mark
    problem = str(error.problem or error.context or "malformed")
    if "\\t" in problem:
        return "not YAML: a tab cannot be used for indentation; use spaces", mark
    if "another document" in problem:
        return "a file holds one configuration: no other document may follow (---)", mark
    if "<block end>" in problem:
        return f"not YAML: {problem}; is this line indented as those above it?", mark
    if mark is not None and text[max(0, mark.index - 1) : mark.index + 1] == "${":
        return "within [ ] and { } a variable stands in quotes: '${NAME}'", mark
    return f"not YAML: {problem}", mark


class _Reader:
    """Walks nodes once, collecting data, places and findings."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.values: dict[Path, Mark] = {}
        self.keys: dict[Path, Mark] = {}
        self.expanded: set[Path] = set()
        self.findings: list[Finding] = []
        self._nodes = 0

    def fault(self, mark: Mark, path: Path, message: str) -> None:
        self.findings.append(_finding(mark, "", Problem(path, message)))

    def merge(self, roots: list[yaml.MappingNode]) -> yaml.MappingNode:
        """One mapping of all: lists joined, the rest once only (``version`` may be repeated)."""
        fields: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for root in roots:
            here: set[str] = set()
            for key, value in root.value:
                name = str(key.value)
                if name not in fields or name in here:
                    # A key given twice in one text is kept twice, for `take` to report.
                    fields[name if name not in here else f"{name}\0{id(key)}"] = key, value
                elif isinstance(value, yaml.SequenceNode) and isinstance(
                    fields[name][1], yaml.SequenceNode
                ):
                    fields[name][1].value.extend(value.value)
                elif name != "version":
                    first = fields[name][0].start_mark
                    self.fault(
                        key.start_mark,
                        (name,),
                        f"field {name!r} is given in {first.name}:{first.line + 1} already",
                    )
                here.add(name)
        first_root = roots[0]
        return yaml.MappingNode(
            first_root.tag, list(fields.values()), first_root.start_mark, first_root.end_mark
        )

    def take(self, node: yaml.Node, path: Path) -> Any:
        self._nodes += 1
        self.values[path] = node.start_mark
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            # An alias inside its own anchor ends here too.
            if not any("too large" in finding.message for finding in self.findings):
                self.fault(
                    node.start_mark,
                    path,
                    f"the configuration is too large or refers to itself: at most {MAX_DEPTH} "
                    f"levels and {MAX_NODES} values",
                )
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.take(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.fault(key.start_mark, path, "a field name is a word, not a list or mapping")
                continue
            name = key.value
            if name == "<<" and not key.style:
                self.fault(key.start_mark, path, "merge keys (<<) are not supported")
                continue
            if name in data:
                first = self.keys[*path, name].line + 1
                self.fault(
                    key.start_mark,
                    (*path, name),
                    f"duplicate field {name!r}, first on line {first}",
                )
                continue
            self.keys[*path, name] = key.start_mark
            data[name] = self.take(value, (*path, name))
        return data

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        explicit = node.tag not in ("tag:yaml.org,2002:str", "!")
        if explicit:
            self.fault(node.start_mark, path, f"tags are not supported: {node.tag}")
            return None
        text = self._expand(node, path)
        if node.style is not None or path in self.expanded:
            return text
        return resolve(text)

    def _expand(self, node: yaml.ScalarNode, path: Path) -> str:
        text: str = node.value
        if "$" not in text:
            return text

        def value(found: re.Match[str]) -> str:
            if found[0] == "$$":
                return "$"
            name = _NAME.fullmatch(found[1] or "")
            if name is None:
                self.fault(
                    node.start_mark, path, "a variable is written ${NAME} or ${NAME:-default}"
                )
                return ""
            self.expanded.add(path)
            known = self.env.get(name[1])
            if name[2] is not None:
                return known or name[2]
            if known is None:
                self.fault(
                    node.start_mark,
                    path,
                    f"environment variable {name[1]} is not set, and there is no default "
                    f"(${{{name[1]}:-default}})",
                )
            return known or ""

        return _VARIABLE.sub(value, text)
