"""Slices: what is let in, what is kept out, and that members are what plain Python would say."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from homes import make_home
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres import Server

from curation import BadInput, Catalog, NotFound
from curation.slices import Frame, columns_of, vet

FRAME = Frame(
    families={
        "attr": {
            "key": "VARCHAR",
            "night": "BOOLEAN",
            "weather": "VARCHAR",
            "height": "DOUBLE",
            "car": "DOUBLE",
            "seen": "TIMESTAMP",
        },
        "label": {"color": "VARCHAR", "car": "BOOLEAN", "speed": "DOUBLE"},
        "state": {"color": "VARCHAR", "car": "VARCHAR"},
        "pred": {"color": "STRUCT(value VARCHAR, confidence DOUBLE)"},
        "boxes": {"things": "STRUCT(class VARCHAR, x DOUBLE, y DOUBLE, w DOUBLE, h DOUBLE)[]"},
    },
    classes={"color": ("red", "yellow", "green")},
)

REFUSED = [
    "",
    " ",
    "true\0 OR true",
    "NOT " * 400 + "true",
    "(" * 200 + "abs(" * 300 + "1" + ")" * 500 + " = 1",
    *r"""
-- nothing
/* nothing */
;
true; DROP TABLE sample
true) or (true
(true
true)
1
'yes'
NULL
attr.height
label.color
[true]
{'a': true}
true, false
true AS x
*
attr.*
COLUMNS('night')
true FROM sample
true WHERE true
true ORDER BY 1
true LIMIT 1
true OFFSET 1
true GROUP BY ALL
true HAVING true
true QUALIFY true
true UNION SELECT true
DISTINCT true
true USING SAMPLE 1
(SELECT true)
EXISTS (SELECT 1)
night IN (SELECT true)
weather = ANY (SELECT 'fog')
(WITH x AS (SELECT 1) SELECT true)
(FROM sample)
(DELETE FROM sample RETURNING true)
(VALUES (true))
?
$1
$name = 1
random() > 0.5
setseed(1) IS NULL
uuid() IS NULL
now() > '2020-01-01'
current_timestamp IS NULL
today() IS NULL
getvariable('x') IS NULL
current_setting('threads') = '1'
version() = 'x'
nextval('s') > 0
currval('s') > 0
read_text('/etc/passwd') IS NULL
getenv('HOME') = ''
read_csv('/etc/passwd') IS NULL
glob('/etc/*') IS NULL
count(*) > 1
sum(height) > 1
max(height) > 1
row_number() OVER () = 1
lag(height) OVER () > 1
height > sum(height) OVER ()
nosuch(height)
main.abs(1) > 0
system.main.abs(1) > 0
attr.nihgt
nihgt
label.nosuch = 'a'
state.nosuch = 'known'
car
pred.color
sample.key = 'a'
height > 1e400
weather = 'fog
len(list_filter(boxes.things, lambda attr: true)) > 0
COPY sample TO '/tmp/x'
ATTACH 'x.db'
PRAGMA version
INSTALL httpfs
SET threads = 1
CALL pragma_version()
height::no_such_type > 1
weather = 1/0 AND
NOT
night AND
error('boom') IS NULL
age(seen) > INTERVAL 1 DAY
current_localtimestamp() > seen
json_serialize_plan('SELECT * FROM read_csv(''/etc/passwd'')') IS NULL
vector_type(night) = 'FLAT_VECTOR'
len(lpad('x', 1000000000, 'y')) > 0
len(printf('%1000000000d', 1)) > 0
len([attr FOR attr IN [1]]) > 0
list_sum([height]) > 1
"attr.night"
"attr"."night"."deeper"
pred.color.valeu = 'red'
weather COLLATE NOCASE = 'fog'
weather -> '$.a' = 'b'
true GROUP BY ()
#1
sleep_ms(1000) IS NULL
""".strip().splitlines(),
]

GOOD = [
    ("night", "attr.night"),
    ("NOT night", "(NOT attr.night)"),
    ("color = 'yellow' -- the rare one", "(\"label\".color = 'yellow')"),
    ("label.color = 'yellow' AND night", "((\"label\".color = 'yellow') AND attr.night)"),
    ("label.car", '"label".car'),
    ("attr.car > 3", "(attr.car > 3)"),
]
ALSO_GOOD = [
    "weather IN ('fog', 'rain')",
    "height BETWEEN 1 AND 2",
    "weather LIKE 'f%' OR weather IS NULL",
    "state.color = 'unsure'",
    "coalesce(height, 0) > 3 AND abs(speed) < 5",
    "pred.color.value = 'red' AND pred.color.confidence < 0.5",
    "len(list_filter(boxes.things, lambda b: b.h > 10 AND b.class = 'light')) > 0",
    "CASE WHEN night THEN label.car ELSE false END",
    'lower(weather) = \'fog\' AND "attr"."night"',
    "label.car IS TRUE OR label.car IS NOT FALSE",
    "weather IN ['fog', 'rain'] AND pred.color = {'value': 'red', 'confidence': 0.5}",
    "len([b FOR b IN boxes.things IF b.w > height]) = 2",
    "EXTRACT(year FROM seen) = 2024 AND seen > TIMESTAMP '2024-02-01' + INTERVAL 1 DAY",
    "weather LIKE '%$%' ESCAPE '$' OR (weather, night) = ('fog', true)",
    "'it''s' < weather AND weather SIMILAR TO '[a-z]+' AND -height // 2 < 1e3 AND TRY_CAST(key AS INTEGER) IS NULL",
    "CASE weather WHEN 'fog' THEN night ELSE NOT night END IS NOT DISTINCT FROM true",
    " AND ".join(["night"] * 500),
    "key LIKE 'streets/%'",
]


@pytest.mark.parametrize("predicate", REFUSED)
def test_refused_in_one_line(predicate: str) -> None:
    with pytest.raises(BadInput) as caught:
        vet(predicate, FRAME)
    assert "\n" not in str(caught.value)
    assert repr(predicate) in str(caught.value)


@pytest.mark.parametrize(("predicate", "canonical"), GOOD)
def test_canonical_text(predicate: str, canonical: str) -> None:
    assert vet(predicate, FRAME) == canonical


@pytest.mark.parametrize("predicate", [*(predicate for predicate, _ in GOOD), *ALSO_GOOD])
def test_canonical_text_is_a_fixed_point(predicate: str) -> None:
    canonical = vet(predicate, FRAME)
    assert vet(canonical, FRAME) == canonical


def test_predicates_are_short() -> None:
    with pytest.raises(BadInput, match="slice of 10002 characters"):
        vet("night AND " + "(" * 4995 + "night"[:2] + ")" * 4995, FRAME)


@pytest.mark.parametrize("hidden", ["-- ; DROP TABLE sample", "/* random() */", "; ; -- true", ""])
def test_what_is_hidden_does_not_survive(hidden: str) -> None:
    assert vet(f"night {hidden}", FRAME) == "attr.night"


def test_columns_are_those_of_the_frame_only() -> None:
    canonical = vet("len(list_filter(boxes.things, lambda b: b.h > attr.height)) > 0 AND color = 'red'", FRAME)
    assert columns_of(canonical) == (("attr", "height"), ("boxes", "things"), ("label", "color"))


def test_near_names_are_suggested() -> None:
    with pytest.raises(BadInput, match="did you mean 'night'"):
        vet("nihgt", FRAME)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory, lake: Server | None) -> Catalog:
    return make_home(tmp_path_factory.mktemp("slices"), lake=lake)


@pytest.fixture(scope="module")
def truth(catalog: Catalog) -> list[dict[str, object]]:
    """Plain rows: night, color, car; None where unknown."""
    with catalog.read() as now:
        rows = {id_: {"id": id_} for id_ in now.samples()["sample_id"].to_pylist()}
        for row in now.attribute("night").to_pylist():
            rows[row["sample_id"]]["night"] = row["value"]
        for task in ("color", "car"):
            classes = now.task(task).classes
            for row in now.labels(task).to_pylist():
                rows[row["sample_id"]][task] = classes[row["code"]]
    return list(rows.values())


ATOMS = {
    "attr.night": lambda row: row.get("night"),
    "NOT attr.night": lambda row: not row["night"],
    "label.color = 'yellow'": lambda row: None if "color" not in row else row["color"] == "yellow",
    "label.color <> 'red'": lambda row: None if "color" not in row else row["color"] != "red",
    "label.car": lambda row: None if "car" not in row else row["car"] == "true",
    "state.color = 'unknown'": lambda row: "color" not in row,
}


@settings(max_examples=25, deadline=None)
@given(atoms=st.lists(st.sampled_from(sorted(ATOMS)), min_size=1, max_size=4))
def test_members_agree_with_plain_python(catalog: Catalog, truth: list[dict[str, object]], atoms: list[str]) -> None:
    expected = [row["id"] for row in truth if all(ATOMS[atom](row) for atom in atoms)]
    with catalog.read() as now:
        found = now.members(vet(" AND ".join(atoms), now.frame()))
    assert found.tolist() == expected


def test_unknown_is_no_member_either_way(catalog: Catalog) -> None:
    with catalog.read() as now:
        either = [now.members(vet(text, now.frame())) for text in ("label.car", "NOT label.car")]
        assert len(either[0]) + len(either[1]) == len(now.labels("car"))


def test_assume_asks_what_a_label_would_do(catalog: Catalog) -> None:
    with catalog.read() as now:
        slice_ = now.slices()["yellow_at_night"].predicate
        night = now.members(now.slices()["night"].predicate)
        assert now.members(slice_, assume={"color": "yellow"}).tolist() == night.tolist()
        assert not len(now.members(slice_, assume={"color": "red"}))


def test_assumed_labels_are_known(catalog: Catalog) -> None:
    with catalog.read() as now:
        asked = vet("label.color = 'red' AND state.color = 'known'", now.frame())
        assert len(now.members(asked, assume={"color": "red"})) == len(now.samples())


def test_predicates_that_break_on_the_data_are_refused(catalog: Catalog) -> None:
    with (
        pytest.raises(BadInput, match="or use TRY_CAST") as caught,
        catalog.commit(author="ada", message="x") as change,
    ):
        change.add_slice("odd", "CAST(key AS INTEGER) = 1")
    assert "\n" not in str(caught.value)
    with catalog.read() as now:
        assert "odd" not in now.slices()


def test_boxes_and_lambdas(catalog: Catalog) -> None:
    with catalog.read() as now:
        tall = vet("len(list_filter(boxes.things, lambda b: b.h > 7 AND b.class = 'light')) = 1", now.frame())
        assert len(now.members(tall)) == 1


def test_predictions_are_read_from_a_run(catalog: Catalog, tmp_path: Path) -> None:
    with catalog.read() as now:
        keys = now.samples()["key"].to_pylist()
        path = tmp_path / "predictions.parquet"
        codes = pa.array(np.arange(len(keys)) % 3, pa.int32())
        table = {"key": keys, "task": ["color"] * len(keys), "code": codes, "confidence": [0.4] * len(keys)}
        pq.write_table(pa.table(table), path)
        sure = vet("pred.color.value = 'yellow' AND pred.color.confidence < 0.5", now.frame())
        assert len(now.members(sure, predictions=str(path))) == len(keys) // 3
        with pytest.raises(NotFound, match="needs a run"):
            now.members(sure)
        with pytest.raises(NotFound, match="are gone"):
            now.members(sure, predictions=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "predicate",
    ["color = 'yelow'", "'yelow' <> label.color", "color IN ('red', 'yelow')", "NOT pred.color.value = 'yelow'"],
)
def test_a_class_that_the_task_does_not_have_is_refused(predicate: str) -> None:
    with pytest.raises(BadInput, match="color has no class 'yelow'; did you mean yellow"):
        vet(predicate, FRAME)


def test_what_only_looks_like_a_class_is_let_through() -> None:
    for predicate in ("weather = 'yelow'", "color LIKE 'yel%'", "state.color = 'unsure'", "color IS NULL"):
        assert vet(predicate, FRAME)
