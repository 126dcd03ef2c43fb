"""A policy as the text that people edit: read with the lines of its problems, and put in force over what they read."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from curation.catalog.commit import PendingCommit
from curation.catalog.ownership import Identity
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.files.toml_files import parse, toml_text, toml_value
from samplers.plan.policy_check import problems
from samplers.policy.policy import Policy

__all__ = ["LONGEST", "PolicyProblem", "ReadPolicy", "policy_text", "put_in_force", "read_policy"]

LONGEST: Final = 200_000
"""Most characters of a policy."""

Path = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PolicyProblem:
    """Why a text is no policy, and the lines that say so, from 1 on; none where no line alone is wrong."""

    text: str
    lines: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ReadPolicy:
    """What a text says: the policy, or None and its problems."""

    policy: Policy | None
    problems: tuple[PolicyProblem, ...] = ()


def policy_text(policy: Policy) -> str:
    """The policy as TOML, without the fields that have their default.

    >>> from curation.catalog.tasks import Task
    >>> print(policy_text(Policy.even([Task(name="dark", kind="binary", owner="ada")])), end="")
    <BLANKLINE>
    [task.dark]
    owner = "ada"
    share = 1.0
    importance = 1.0
    rule = "balanced"
    """
    return toml_text(policy.model_dump(mode="json", exclude_defaults=True))


def read_policy(text: str, now: Snapshot) -> ReadPolicy:
    """The policy that a text in TOML states, checked against the catalog as `amber policy check` does."""
    if len(text) > LONGEST:
        return _refused([PolicyProblem(text=f"{len(text):,} characters, at most {LONGEST:,} are read", lines=())])
    try:
        data = toml_value(text)
    except ValueError as error:
        found = re.search(r"at line (\d+)", str(error))
        lines = (int(found[1]),) if found else (text.count("\n") + 1,) if "end of document" in str(error) else ()
        return _refused([PolicyProblem(text=f"not valid TOML ({error})", lines=lines)])
    if wrong := problems(data, now):
        places = _places(text)
        return _refused([PolicyProblem(text=_plain(line), lines=_lines_of(line, places)) for line in wrong])
    return ReadPolicy(policy=parse(Policy, data, where="policy"))


def put_in_force(change: PendingCommit, policy: Policy, *, by: Identity, read: str | None = None) -> None:
    """Put a policy in force. `read` is the hash of the one that it was written over ("" for none; None: any).

    BadInput where another one is in force by now, and for a task or slice that the catalog lacks.
    """
    policy.check(change.now)
    stored = change.now.ownership.policy()
    newest = Policy.model_validate_json(stored).sha256 if stored else ""
    if read is not None and read != newest and not change.repeated:
        raise BadInput(
            f"policy {policy.sha256[:12]}: was written over {read[:12] or 'none'}, and {newest[:12] or 'none'} is in "
            "force by now; compare the two, and save again"
        )
    change.set_policy(policy.model_dump_json(), policy.sha256, by=by)


def _refused(found: Sequence[PolicyProblem]) -> ReadPolicy:
    return ReadPolicy(policy=None, problems=tuple(found))


def _plain(problem: str) -> str:
    """The text of a problem, without the beginning of a policy that is wrong as a whole."""
    return re.sub(r"^file = .{0,64}?(?:\.\.\.|\}): ", "", problem)


def _places(text: str) -> dict[Path, int]:
    """The line of each table and key of a TOML text whose lines are one key each."""
    found: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.splitlines(), start=1):
        head = re.match(r"\s*\[([^\[\]].*?)\]\s*(#.*)?$", line)
        if head:
            table = _key(f"{head[1]} = 0")
            found.setdefault(table, number)
        elif key := _key(re.sub(r"=.*", "= 0", line)) if "=" in line else ():
            found.setdefault((*table, *key), number)
    return found


def _key(line: str) -> Path:
    """The dotted key of a line such as `a."b c" = 0`; () for another line."""
    try:
        value: Any = tomllib.loads(line)
    except ValueError:
        return ()
    path = list[str]()
    while isinstance(value, dict) and len(value) == 1:
        ((name, value),) = value.items()
        path.append(name)
    return tuple(path)


def _lines_of(problem: str, places: Mapping[Path, int]) -> tuple[int, ...]:
    """The lines that a problem is about, by the field or the task that it names."""
    if summed := re.search(r"the tasks' (share|importance)s sum to", problem):
        return tuple(sorted(line for path, line in places.items() if path[0] == "task" and path[-1] == summed[1]))
    named = [path for path in places if _is_named(path, problem)]
    longest = max(map(len, named), default=0)
    return (min(places[path] for path in named if len(path) == longest),) if named else ()


def _is_named(path: Path, problem: str) -> bool:
    """Whether the text of a problem names a table or a key."""
    words = [".".join(path)]
    if len(path) == 2 and path[0] == "task":
        words += [f"task {path[1]}", f"task {path[1]!r}"]
    if len(path) > 2 and path[2] == "boost":
        words += [f"task {path[1]} boosts" if len(path) == 3 else f"task {path[1]} boosts slice {path[-1]!r}"]
    return any(re.search(rf"(?:^|[\s(]){re.escape(word)}(?:$|[\s:,.])", problem) for word in words)
