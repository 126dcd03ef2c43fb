"""The catalog's tables.

They use only what DuckDB and DuckLake share: NOT NULL, but no keys, checks, sequences, enums or indexes. Tables of
events only grow; the state at a commit is derived from the events up to it. `label_interval` and `attribute_interval`
cache the derived state up to the commit in `folded`.

A code in `label_event` is an index into the task's `book`, which only grows: one entry for each class that the task
ever had. `codes` of a definition gives the current class of each entry, NULL for none. A label of a multilabel task has
in `codes` the classes that are there, and in `looked` those that somebody looked for: NULL for all of them.

`forgotten` has two rows for a forgotten sample: `key_sha256` is the sha256 of its key (NULL for those forgotten before
schema 4), and of "image " and the sha256 of its image (missing for those forgotten by an older Amber).

In `owner_event` and `act_event`, `via` says what named the `member`: "token" (of the service) or "user" (of the
operating system). An act is a sign-off ("sign_off": of the plan `subject` against the plan `before`, under the policy
with the hash `policy`), or sets the policy in force ("policy"), the members of an owner ("owners") or the definition of
a task ("redefine"), or is the decision of a gate ("gate": on the run `subject` against the run `before`, by the
evaluation set with the digest `policy`), or settles a dispute about a label ("settle": `subject` is the task, `before`
the sha256 of the key), or sets the instructions of a task ("instructions": `subject` is the task, `policy` the sha256
of their text), or deploys a run ("release", and "release_back" for a return to an earlier one: the run `subject` in
place of the run `before`, by the record with the sha256 `policy`). A sign-off may also be of the release of the run
`subject` in place of the run `before`, under the rules of a gate with the hash `policy`.

`instructions` of a label is the version of the task's instructions that the annotator had (NULL: not known), as in
`instruction_event`: 0 before there were any. `assignment_event` says to whom the items of a task are given, at most
`most` open ones at a time (NULL: any number); `person_event` says who left.
"""

from typing import Final

__all__ = [
    "BOXES", "DDL", "EVALUATION", "GROWING", "INAPPLICABLE", "KNOWN", "PRECEDENCE", "RETRACTED", "STATES", "UNSURE",
    "VERSION",
]  # fmt: skip

VERSION: Final = 6

EVALUATION: Final = ("test", "validation")
"""Splits for evaluation only: never trained on, never mined."""

RETRACTED: Final = 0
KNOWN: Final = 1
UNSURE: Final = 2
INAPPLICABLE: Final = 3
STATES: Final = {"retracted": RETRACTED, "known": KNOWN, "unsure": UNSURE, "inapplicable": INAPPLICABLE}
"""States of a label event by name. Unknown is the absence of a current label, so it has no number.
Inapplicable: an annotator says that the task does not apply to the sample."""

PRECEDENCE: Final = {"lead": 0, "human": 1, "oracle": 1, "import": 2, "model": 3}
"""Rank of each source: a lead, who settles disputes, overrides other people; human labels (and the oracle's) override
imported ones, which override those of a model."""

BOXES: Final = "STRUCT(code INTEGER, x DOUBLE, y DOUBLE, w DOUBLE, h DOUBLE, attributes MAP(VARCHAR, VARCHAR))[]"

DDL: Final = f"""
CREATE TABLE meta (name VARCHAR NOT NULL, value VARCHAR NOT NULL);
CREATE TABLE head (id BIGINT NOT NULL);
CREATE TABLE commits (
    id BIGINT NOT NULL, parent BIGINT NOT NULL, digest VARCHAR NOT NULL, author VARCHAR NOT NULL,
    message VARCHAR NOT NULL, batch VARCHAR NOT NULL, committed_at TIMESTAMP NOT NULL);
CREATE TABLE task_event (
    commit_id BIGINT NOT NULL, task_id INTEGER NOT NULL, name VARCHAR NOT NULL, definition VARCHAR NOT NULL,
    book VARCHAR[] NOT NULL, codes INTEGER[] NOT NULL);
CREATE TABLE slice_event (
    commit_id BIGINT NOT NULL, name VARCHAR NOT NULL, task VARCHAR NOT NULL, predicate VARCHAR NOT NULL,
    rare BOOLEAN NOT NULL);
CREATE TABLE annotator (annotator_id INTEGER NOT NULL, name VARCHAR NOT NULL, source VARCHAR NOT NULL);
CREATE TABLE sample (
    commit_id BIGINT NOT NULL, sample_id BIGINT NOT NULL, key VARCHAR NOT NULL, location VARCHAR NOT NULL,
    dataset VARCHAR NOT NULL, sha256 VARCHAR NOT NULL, phash UBIGINT NOT NULL, format VARCHAR NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, bytes BIGINT NOT NULL);
CREATE TABLE attribute (commit_id BIGINT NOT NULL, name VARCHAR NOT NULL, type VARCHAR NOT NULL);
CREATE TABLE attribute_event (
    commit_id BIGINT NOT NULL, sample_id BIGINT NOT NULL, name VARCHAR NOT NULL,
    text VARCHAR, number DOUBLE, flag BOOLEAN, time TIMESTAMP, "integer" BIGINT);
CREATE TABLE label_event (
    commit_id BIGINT NOT NULL, sample_id BIGINT NOT NULL, task_id INTEGER NOT NULL, annotator_id INTEGER NOT NULL,
    state UTINYINT NOT NULL, code INTEGER, number DOUBLE, codes INTEGER[], looked INTEGER[], boxes {BOXES},
    confidence REAL NOT NULL, labelled_at TIMESTAMP NOT NULL, instructions INTEGER);
CREATE TABLE forgotten (commit_id BIGINT NOT NULL, sample_id BIGINT NOT NULL, key_sha256 VARCHAR);
CREATE TABLE folded (id BIGINT NOT NULL);
CREATE TABLE attribute_interval (
    name VARCHAR NOT NULL, sample_id BIGINT NOT NULL, valid_from BIGINT NOT NULL, valid_to BIGINT,
    text VARCHAR, number DOUBLE, flag BOOLEAN, time TIMESTAMP, "integer" BIGINT);
CREATE TABLE label_interval (
    task_id INTEGER NOT NULL, sample_id BIGINT NOT NULL, valid_from BIGINT NOT NULL, valid_to BIGINT,
    state UTINYINT NOT NULL, code INTEGER, number DOUBLE, codes INTEGER[], looked INTEGER[], boxes {BOXES},
    source VARCHAR NOT NULL);
CREATE TABLE quarantine_event (
    commit_id BIGINT NOT NULL, dataset VARCHAR NOT NULL, location VARCHAR NOT NULL, reason VARCHAR NOT NULL);
CREATE TABLE request_event (
    commit_id BIGINT NOT NULL, request_id BIGINT NOT NULL, sample_id BIGINT NOT NULL, task_id INTEGER NOT NULL,
    state VARCHAR NOT NULL, arm VARCHAR NOT NULL, slice VARCHAR NOT NULL, reason VARCHAR NOT NULL,
    run VARCHAR NOT NULL, priority INTEGER NOT NULL, propensity DOUBLE NOT NULL, cost DOUBLE NOT NULL);
CREATE TABLE answer_event (
    commit_id BIGINT NOT NULL, sample_id BIGINT NOT NULL, task_id INTEGER NOT NULL, annotator VARCHAR NOT NULL,
    server VARCHAR NOT NULL, project BIGINT NOT NULL, item BIGINT NOT NULL, annotation BIGINT NOT NULL,
    outcome VARCHAR NOT NULL, seconds DOUBLE NOT NULL, answered_at TIMESTAMP NOT NULL);
CREATE TABLE instruction_event (
    commit_id BIGINT NOT NULL, task_id INTEGER NOT NULL, version INTEGER NOT NULL, text VARCHAR NOT NULL);
CREATE TABLE assignment_event (
    commit_id BIGINT NOT NULL, task_id INTEGER NOT NULL, person VARCHAR NOT NULL, active BOOLEAN NOT NULL,
    most INTEGER);
CREATE TABLE person_event (commit_id BIGINT NOT NULL, person VARCHAR NOT NULL, "left" BOOLEAN NOT NULL);
CREATE TABLE run_event (
    commit_id BIGINT NOT NULL, run VARCHAR NOT NULL, plan VARCHAR NOT NULL, predictions VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL);
CREATE TABLE slice_error (
    commit_id BIGINT NOT NULL, run VARCHAR NOT NULL, task VARCHAR NOT NULL, slice VARCHAR NOT NULL,
    split VARCHAR NOT NULL, metric VARCHAR NOT NULL, n BIGINT NOT NULL, groups BIGINT NOT NULL,
    value DOUBLE, low DOUBLE, high DOUBLE);
CREATE TABLE owner_event (
    commit_id BIGINT NOT NULL, owner VARCHAR NOT NULL, member VARCHAR NOT NULL, via VARCHAR NOT NULL,
    active BOOLEAN NOT NULL);
CREATE TABLE policy_event (commit_id BIGINT NOT NULL, sha256 VARCHAR NOT NULL, policy VARCHAR NOT NULL);
CREATE TABLE act_event (
    commit_id BIGINT NOT NULL, act VARCHAR NOT NULL, owner VARCHAR NOT NULL, member VARCHAR NOT NULL,
    via VARCHAR NOT NULL, subject VARCHAR NOT NULL, before VARCHAR NOT NULL, policy VARCHAR NOT NULL);
"""

GROWING: Final = {
    "commits": "id",
    **dict.fromkeys(
        (
            "act_event", "answer_event", "assignment_event", "attribute", "attribute_event", "forgotten",
            "instruction_event", "label_event", "owner_event", "person_event", "policy_event", "quarantine_event",
            "request_event", "run_event", "sample", "slice_error", "slice_event", "task_event",
        ),
        "commit_id",
    ),
}  # fmt: skip
"""Tables that only grow, each with the column of its commit."""
