"""A pending commit: events are checked and added, and become durable together."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog import label_validation, schema
from curation.catalog.acts import add_act, add_members, add_policy
from curation.catalog.applicability import vet_applies
from curation.catalog.arrow_query import first, scalar
from curation.catalog.attributes import NAME, add_attributes
from curation.catalog.event_tables import as_labels
from curation.catalog.event_writer import Writer, refuse
from curation.catalog.ownership import Identity, definition_hash
from curation.catalog.pending_people import PendingPeople
from curation.catalog.pending_requests import PendingRequests
from curation.catalog.revert import forget_sample, restored_slices, restored_tasks, revert_events
from curation.catalog.slice_columns import frame_of
from curation.catalog.slice_vetting import vet
from curation.catalog.slices import Slice, rename_classes
from curation.catalog.snapshot import Snapshot
from curation.catalog.task_definitions import Definition
from curation.catalog.tasks import Task
from curation.errors import BadInput, NotFound

__all__ = ["PendingCommit"]


LOCKED_SECONDS: Final = 20.0
"""Longest run of a predicate inside a commit: other writers give up after 30 s."""


class PendingCommit:
    """Events that are added together, or not at all. `now` is the snapshot that includes them.

    If its batch id has landed before, `repeated` is true, `id` is the commit that landed it, and adding does nothing.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, *, id: int, repeated: bool) -> None:
        self._writer = Writer(connection, id=id, repeated=repeated)
        self.id = id
        self.repeated = repeated
        self.now = Snapshot.at(connection, id if not repeated else None)
        self._at = datetime.now(UTC).replace(tzinfo=None)
        self._labelled = False
        self.people = PendingPeople(self._writer, self.now.view)
        self.requests = PendingRequests(self._writer, self.now)

    @classmethod
    def begin(cls, connection: duckdb.DuckDBPyConnection, *, author: str, message: str, batch: str) -> "PendingCommit":
        """Take the next commit id, so that two writers collide, and only then look for the batch id."""
        connection.execute("UPDATE head SET id = id + 1")
        seen = first(connection, "SELECT id FROM commits WHERE batch = ?", [batch])
        if seen:
            connection.execute("UPDATE head SET id = id - 1")
            return cls(connection, id=seen[0], repeated=True)
        change = cls(connection, id=scalar(connection, "SELECT id FROM head"), repeated=False)
        change._header = (author, message, batch)
        change._writer.hash(author, message, batch)
        return change

    _header: tuple[str, str, str] = ("", "", "")

    def finish(self) -> None:
        """Write the commit's own row; its digest covers the parent's digest and everything added except times."""
        if self.repeated:
            return
        parent = first(self._writer.connection, "SELECT digest FROM commits WHERE id = ?", [self.id - 1])
        self._writer.hash(parent[0] if parent else "")
        author, message, batch = self._header
        self._writer.append_row("commits", self.id - 1, self._writer.digest, author, message, batch, self._at)

    def add_tasks(self, tasks: Iterable[Task]) -> None:
        """Declare tasks. Repeating a definition changes nothing; another definition under a known name is refused."""
        known = self.now.definitions()
        for task in self._vetted(list(tasks)):
            if self.repeated or (task.name in known and known[task.name].task == task):
                continue
            if task.name in known:
                raise BadInput(
                    f"task {task.name}: is already defined differently; redefine it, or give the new task another name"
                )
            known[task.name] = Definition.first(task, len(known))
            self._define(known[task.name])

    def redefine_task(
        self, task: Task, moved: Mapping[str, str | None] | None = None, *, by: Identity | None = None
    ) -> None:
        """Give a task another definition. `moved` maps old classes to new names, or to None (their labels become
        unknown).

        Labels and slices follow their class. BadInput when a slice names a class that no longer exists, and when the
        owner has members, `by` is none of them, and owner, classes, attributes of boxes or metric change.
        """
        old, (task,) = self.now.definition(task.name), self._vetted([task])
        new = old.redefined(task, moved or {})
        if self.repeated or new == old:
            return
        if self._writer.number(
            "SELECT count(*) FROM task_event WHERE task_id = ? AND commit_id = ?", [old.task_id, self.id]
        ):
            raise BadInput(f"task {task.name}: was defined in this commit; redefine it in another commit")
        self._define_by_owner(new, old, by)
        names = {name: (moved or {}).get(name, name) for name in old.task.classes}
        for part in self.now.slices().values():
            renamed = rename_classes(part.predicate, task.name, names)
            self.add_slice(part.name, renamed, task=part.task, rare=part.rare)
        for other in self.now.definitions().values():
            if other.task.applies:
                applies = rename_classes(other.task.applies, task.name, names)
                if applies != other.task.applies:
                    self._define(replace(other, task=other.task.model_copy(update={"applies": applies})))

    def add_slice(self, name: str, predicate: str, *, task: str = "", rare: bool = False, checked: str = "") -> Slice:
        """Declare a slice and return it with its canonical predicate; a known name gets the new predicate.

        `checked` is the canonical predicate that `Snapshot.check_slice` returned: it is not run again under the lock.
        Otherwise it must end within 20 s, for other writers wait.
        """
        if not re.fullmatch(NAME, name):
            raise BadInput(f"slice {name!r}: a name is of a-z, 0-9 and _, with a letter first; choose another")
        if task and task not in self.now.tasks():
            raise NotFound(f"slice {name}: there is no task {task!r}; `amber tasks` lists them")
        made = Slice(name=name, task=task, predicate=vet(predicate, self.now.frame()), rare=rare)
        if not made.reads_predictions and made.predicate != checked:
            self.now.members(made.predicate, seconds=LOCKED_SECONDS)
        if not self.repeated and self.now.slices().get(name) != made:
            self._write_slice(made)
        return made

    def remove_slice(self, name: str) -> None:
        """Remove a slice from this commit on; older commits keep it. NotFound when there never was one."""
        if not self._writer.number("SELECT count(*) FROM slice_event WHERE name = ?", [name]):
            raise NotFound(f"slice {name!r}: the catalog has no such slice; `amber slices` lists them")
        known = self.now.slices()
        if name in known and not self.repeated:
            self._write_slice(replace(known[name], predicate=""))

    def add_samples(self, samples: pa.Table, *, dataset: str) -> int:
        """Add samples (key, location, sha256, phash, format, width, height, bytes); returns how many are new.

        A known key with the same bytes is left unchanged; a known key with other bytes, an empty key, a key that was
        forgotten, and a new key of an image that was forgotten are refused.
        """
        if self.repeated:
            return 0
        sql = self._writer.sql
        empty = "SELECT location FROM incoming WHERE coalesce(key, '') = '' ORDER BY location"
        refuse(
            sql(empty, incoming=samples), "{0}: its key is empty, and readers of shards skip such images; give it a key"
        )
        twice = "SELECT key FROM incoming GROUP BY key HAVING count(*) > 1 ORDER BY key LIMIT 1"
        refuse(sql(twice, incoming=samples), "key {0!r}: is in this batch twice; make keys unique")
        if gone := self.now.forgotten(samples["key"]):
            raise BadInput(f"key {gone[0]!r}: was forgotten (`amber forget`) and must not come back; leave it out")
        if gone := self.now.forgotten_images(samples.select(["key", "sha256"])):
            raise BadInput(
                f"key {gone[0]!r}: its image was forgotten (`amber forget`) and must not come back; leave it out"
            )
        other = "SELECT key FROM incoming JOIN sample USING (key) WHERE sample.sha256 <> incoming.sha256 ORDER BY key"
        refuse(
            sql(other, incoming=samples),
            "key {0!r}: the catalog has another image with this key; give the new image another key",
        )
        fresh = sql(
            "SELECT key, location, ? AS dataset, sha256, phash, format, width, height, bytes FROM incoming "
            "ANTI JOIN sample USING (key) ORDER BY key",
            [dataset],
            incoming=samples,
        )
        first = self._writer.number(
            "SELECT coalesce(max(sample_id), -1) + 1 FROM "
            "(SELECT sample_id FROM sample UNION ALL SELECT sample_id FROM forgotten)"
        )
        ids = pa.array(range(first, first + len(fresh)), pa.int64())
        self._writer.append("sample", fresh.append_column("sample_id", ids))
        return len(fresh)

    def add_attributes(self, attributes: pa.Table) -> None:
        """Add attributes: a column `key` and one column (string, bool, number or timestamp) for each attribute.

        Nulls are skipped. An attribute keeps its first type; integers have the exact type "integer" if one is above
        2^53. One commit sets it at most once for each sample.
        """
        if not self.repeated:
            add_attributes(self._writer, attributes, self.now.attributes())

    def add_labels(self, labels: pa.Table, *, source: str, quarantine: str = "") -> int:
        """Add labels (columns of `event_tables.GIVEN_LABELS`); returns how many. All are checked before any is added.

        BadInput names the first invalid label, and nothing is added. If `quarantine` names a data set, invalid labels
        are recorded under it with their reasons instead, and the valid ones are added. A table with `sample_id` in
        place of `key` saves the lookup of keys.
        """
        if source not in schema.PRECEDENCE:
            raise BadInput(f"source {source!r}: must be one of {', '.join(schema.PRECEDENCE)}")
        if self.repeated or not len(labels):
            return 0
        return self._add_coded(self._valid(labels, source, quarantine), source)

    def check_labels(self, labels: pa.Table, *, quarantine: str = "") -> pa.Table:
        """The valid rows of `labels`, without adding them: for labels that are held back for the oracle.

        Invalid rows raise BadInput or go to quarantine, as in `add_labels`.
        """
        valid = self._valid(labels, "oracle", quarantine)
        return labels.take(valid["row"].combine_chunks().sort())

    def add_quarantine(self, rows: Iterable[tuple[str, str]], *, dataset: str) -> None:
        """Record files (location, reason) that were refused."""
        table = pa.Table.from_pylist(
            [{"dataset": dataset, "location": location, "reason": reason} for location, reason in rows],
            pa.schema([("dataset", pa.string()), ("location", pa.string()), ("reason", pa.string())]),
        )
        self._writer.append("quarantine_event", table)

    def add_requests(self, requests: pa.Table) -> None:
        """Add label requests (sample_id, task_id, arm, slice, reason, run, priority, propensity, cost) as open."""
        first = self._writer.number("SELECT coalesce(max(request_id), -1) + 1 FROM request_event")
        ids = pa.array(range(first, first + len(requests)), pa.int64())
        opened = requests.append_column("request_id", ids)
        opened = opened.append_column("state", pa.repeat(pa.scalar("open", pa.string()), len(requests)))
        self._writer.append("request_event", opened)

    def close_requests(self, request_ids: Iterable[int], *, state: str) -> None:
        """Move requests to `state`: "answered" or "withdrawn"."""
        wanted = pa.table({"request_id": pa.array(sorted(request_ids), pa.int64())})
        current = self.now.requests()
        closed = self._writer.sql(
            "SELECT current.* REPLACE (? AS state) FROM wanted JOIN current USING (request_id)", [state],
            wanted=wanted, current=current,
        )  # fmt: skip
        self._writer.append("request_event", closed.drop_columns(["key", "task"]))

    def add_answers(self, answers: pa.Table) -> None:
        """Record answers from a labelling server, the provenance of labels: sample_id, task_id, annotator, server,
        project, item, annotation, outcome (what became of the answer), seconds, answered_at."""
        self._writer.append("answer_event", answers)

    def add_run(self, run: str, *, plan: str, predictions: str, sha256: str) -> None:
        """Register a run and its predictions file (path from the home, sha256 of its bytes)."""
        row = {"run": run, "plan": plan, "predictions": predictions, "sha256": sha256}
        self._writer.append("run_event", pa.Table.from_pylist([row]))

    def add_slice_errors(self, errors: pa.Table) -> None:
        """Record the figures of a run, by task and slice."""
        self._writer.append("slice_error", errors)

    def revert(self, commit: int, *, by: Identity | None = None) -> dict[str, int]:
        """Undo an earlier commit: its events end, and the events that they replaced hold again.

        Returns how many labels, attributes, samples, tasks, slices, label requests, instructions, assignments and
        people changed, and how many events were `kept` because a later commit had replaced them. Where there was no
        earlier event, a label is retracted, an attribute loses its value and a request is withdrawn. Samples that the
        commit added are excluded, since only `forget` removes a sample. A task that it declared stays, without those
        labels; runs and their figures stay.
        A definition is restored by `by`, as in `redefine_task`; instructions, assignments and settled disputes are
        undone likewise: BadInput when the owner of their task has members, and `by` is none of them.
        """
        if not 0 < commit < self.id:
            raise BadInput(f"commit {commit}: only commits 1 to {self.id - 1} can be undone; `amber log` lists them")
        if self.repeated:
            return {}
        self.people.refuse_revert(commit, by)
        moved = revert_events(self._writer, commit)
        keys = self._writer.sql("SELECT key FROM sample WHERE commit_id = ? ORDER BY key", [commit])
        if len(keys):
            self.add_attributes(keys.append_column("excluded", pa.array([True] * len(keys))))
        before = self.now.earlier(commit - 1)
        tasks = restored_tasks(self._writer, self.now, before, commit)
        for definition in tasks:
            self._define_by_owner(definition, self.now.definition(definition.task.name), by)
        slices = restored_slices(self._writer, before, commit)
        for part in slices:
            if part.predicate:
                self.add_slice(part.name, part.predicate, task=part.task, rare=part.rare)
            else:
                self._write_slice(part)
        return {**moved, "samples": len(keys), "tasks": len(tasks), "slices": len(slices)}

    def forget(self, key: str, *, predictions: Mapping[str, str]) -> None:
        """Remove a sample and everything recorded about it, at every commit; only the fact that it was removed stays.

        `predictions` maps each run to the sha256 of its predictions file, rewritten without the sample. NotFound when
        there is no such sample.
        """
        if not self.repeated:
            forget_sample(self._writer, key, predictions)

    def set_members(self, owner: str, members: Iterable[Identity], *, by: Identity) -> None:
        """Map an owner to users and tokens. BadInput when it has members, and `by` is none of them."""
        self.now.ownership.refuse_others(owner, by, f"owner {owner}")
        if not self.repeated:
            add_members(self._writer, owner, self.now.ownership.members().get(owner, ()), members)
            add_act(self._writer, "owners", owner, by)

    def set_policy(self, policy: str, sha256: str, *, by: Identity) -> None:
        """Put a policy (JSON) in force: `amber plan` and the loop follow it."""
        if not self.repeated:
            add_policy(self._writer, policy, sha256)
            add_act(self._writer, "policy", "", by, policy=sha256)

    def sign_off(self, owner: str, *, plan: str, before: str, policy: str, by: Identity) -> None:
        """Accept for `owner` what the plan `plan` takes in comparison with `before`, all by their hashes."""
        self.now.ownership.refuse_others(owner, by, f"sign-off of {owner}")
        if not self.repeated:
            add_act(self._writer, "sign_off", owner, by, subject=plan, before=before, policy=policy)

    def record_gate(self, run: str, *, against: str, evaluation_set: str, by: Identity) -> None:
        """Record that a gate decided on `run` against another run, by the evaluation set with this digest."""
        if not self.repeated:
            add_act(self._writer, "gate", "", by, subject=run, before=against, policy=evaluation_set)

    def record_release(self, act: str, *, run: str, before: str, record: str, by: Identity) -> None:
        """Record that `run` is deployed in place of the run `before`, as its record with the sha256 `record` says.

        `act` is "release", or "release_back" for a return to an earlier release.
        """
        if not self.repeated:
            add_act(self._writer, act, "", by, subject=run, before=before, policy=record)

    def _define_by_owner(self, new: Definition, old: Definition, by: Identity | None) -> None:
        """Define a task again, as an act of its owner where owner, classes (of boxes' attributes too), the codes of
        classes or metric change."""
        fields = [
            (each.task.owner, each.task.classes, each.task.attributes, each.task.metric, each.codes)
            for each in (old, new)
        ]
        if fields[0] != fields[1]:
            self.now.ownership.refuse_others(old.task.owner, by, f"task {old.task.name}")
        self._define(new)
        if by:
            hashes = [definition_hash(each.task) for each in (old, new)]
            add_act(self._writer, "redefine", old.task.owner, by, subject=hashes[1], before=hashes[0])

    def _vetted(self, tasks: list[Task]) -> list[Task]:
        """The tasks with the canonical text of `applies`, which may name any of them but the task itself."""
        if not any(task.applies for task in tasks):
            return tasks
        frame = frame_of({**self.now.tasks(), **{task.name: task for task in tasks}}, self.now.attributes())
        return [vet_applies(task, frame) for task in tasks]

    def _define(self, definition: Definition) -> None:
        task = definition.task
        self._writer.hash("task", task.model_dump_json(), repr(definition.codes))
        self._writer.append_row(
            "task_event", definition.task_id, task.name, task.model_dump_json(), list(definition.book),
            list(definition.codes),
        )  # fmt: skip

    def _write_slice(self, part: Slice) -> None:
        """Append a slice; an empty predicate removes it from this commit on."""
        self._writer.hash("slice", repr(part))
        self._writer.append_row("slice_event", part.name, part.task, part.predicate, part.rare)

    def _valid(self, labels: pa.Table, source: str, quarantine: str) -> pa.Table:
        """The valid rows of `labels`, coded; invalid rows raise BadInput or go to quarantine."""
        labels = as_labels(labels)
        coded = label_validation.coded(
            self._writer.connection, labels, list(self.now.definitions().values()), at=self._at,
            given=(source, self.id) if self._labelled else None,
        )  # fmt: skip
        if coded["broken"].null_count == len(coded):
            return coded
        complaints = label_validation.complaints(labels, coded.filter(pc.is_valid(coded["broken"])).sort_by("row"))
        if not quarantine:
            raise BadInput(next(complaints)[1])
        self.add_quarantine(complaints, dataset=quarantine)
        return coded.filter(pc.is_null(coded["broken"]))

    def _add_coded(self, coded: pa.Table, source: str) -> int:
        names = pc.unique(coded["annotator"])
        annotators = self._annotators(names, source)
        ids = annotators["annotator_id"].take(
            pc.index_in(coded["annotator"], value_set=annotators["name"].combine_chunks())
        )
        rows = coded.append_column("annotator_id", ids).select(label_validation.COLUMNS)
        self._writer.append("label_event", rows, aside="labelled_at")
        self._labelled = True
        return len(rows)

    def _annotators(self, names: pa.Array, source: str) -> pa.Table:
        """Name and id of each annotator; new ones are registered."""
        every = self._writer.sql("SELECT name, annotator_id, source FROM annotator ORDER BY name")
        known = every.filter(pc.equal(every["source"], source)).drop_columns(["source"])
        new = names.filter(pc.invert(pc.is_in(names, value_set=known["name"].combine_chunks()))).sort()
        self._writer.hash(source, *map(str, new.to_pylist()))
        if not len(new):
            return known
        first = 1 + (pc.max(every["annotator_id"]).as_py() if len(every) else -1)
        ids = pa.array(range(first, first + len(new)), pa.int32())
        fresh = pa.table({"name": new, "annotator_id": ids})
        self._writer.sql("INSERT INTO annotator BY NAME SELECT *, ? AS source FROM fresh", [source], fresh=fresh)
        return pa.concat_tables([known, fresh])
