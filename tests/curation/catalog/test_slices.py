"""Slices: which predicates are accepted, and which are refused."""

import duckdb
import pytest

from curation import BadInput
from curation.catalog.slice_vetting import Frame, vet
from curation.catalog.slice_vocabulary import FUNCTIONS
from curation.catalog.slices import columns_of

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
    "n\u0456ght",
    "night\u202e",
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
height BETWEEN (SELECT 1) AND 2
CASE WHEN night THEN (SELECT true) END
[x FOR x IN (SELECT [1])] = [1]
ARRAY(SELECT 1) = [1]
MAP {'a': (SELECT 1)}['a'] = 1
list_transform([1], lambda x: (SELECT x)) = [1]
true FROM LATERAL (SELECT 1)
(WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) > 1 FROM t)
COLUMNS(lambda c: c = 'night')
COALESCE(*COLUMNS(*))
* EXCLUDE (night)
* REPLACE (true AS night)
unnest([true])
unnest(boxes.things, recursive := true)
:name
$$true$$
$$true) OR (true$$
true /* a */ AND /* b
U&'\0027' = 'x'
'x'::JSON IS NULL
'/etc/passwd'::BLOB IS NULL
'sample'::regclass IS NULL
'a'::ENUM('a') = 'a'
[1]::INTEGER[1] = [1]
[{'a': 'x'}]::STRUCT(a UUID)[] IS NULL
pg_catalog.pg_get_viewdef(1) IS NULL
pg_typeof(night) = 'boolean'
has_table_privilege('sample', 'select')
current_user = 'duckdb'
DATE 'today' > seen
'now'::TIMESTAMP > seen
seen > 'yesterday'
TIMESTAMPTZ '2020-01-01' > seen
seen::TIMESTAMPTZ IS NULL
TRY_CAST(key AS TIMETZ) IS NULL
seen AT TIME ZONE 'Europe/Berlin' > seen
to_timestamp(1) < seen
make_timestamptz(2020, 1, 1, 1, 1, 1.0) < seen
get_current_timestamp() IS NULL
txid_current() > 0
uuidv7() IS NULL
hash(key) > 0
md5_number(key) > 0
list_aggregate([1, 2], 'reservoir_quantile', 0.5) > 1
list_distinct([1, 2])[1] = 1
string_agg(key, ',' ORDER BY key) = ''
array_agg(night ORDER BY key) = [true]
sum(height) FILTER (WHERE night) > 1
count(DISTINCT key) > 1
GROUPING(night) = 1
len(range(100000000000)) > 1
generate_series(1, 1000000000000) IS NULL
len(repeat('x', 1000000000000)) > 1
len(bar(1, 0, 1, 1000000000)) > 1
bitstring('1', 1000000000) IS NULL
list_resize([1], 1000000000) IS NULL
factorial(100000) > 1
list_reduce(['a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a'], lambda a, b: a || a) = 'a'
replace(replace(key, 'a', 'aaaaaaaaaa'), 'a', 'aaaaaaaaaa') = 'a'
concat_ws(concat_ws('x', 'a', 'b'), 'a', 'b') = 'a'
len(list_transform(list_transform(list_transform(['a'], lambda x: x || x), lambda x: x || x), lambda x: x || x)) > 1
len(list_transform([1], lambda x: list_transform([1], lambda y: x + y))) > 1
len(list_filter([1], lambda x: len(list_filter([1], lambda y: len(list_filter([1], lambda z: true)) > 0)) > 0)) > 0
len(hex(hex(hex(key)))) > 1
regexp_matches(key, '((a{1,1000}){1,1000}){1,1000}')
regexp_matches(key, '(?<a>a)\1')
CAST('x' AS INTEGER) = 1
INTERVAL '99999999999999 years' > INTERVAL 1 DAY
list_filter([1], lambda x: random() > 0.5) = []
list_filter([1], lambda ATTR: true) = []
list_filter([1], lambda "attr.night": true) = []
attr['night']
struct_extract(attr, 'night')
(attr).night
to_json(attr) IS NULL
rowid > 1
frame.sample_id > 1
main.frame.attr.night
memory.main.frame.attr.night
icu_sort_key(key, 'de') IS NULL
collate(key, 'nocase') = 'a'
query('SELECT true')
query_table('sample')
json_execute_serialized_sql('x') IS NULL
pragma_table_info('sample') IS NULL
duckdb_secrets() IS NULL
parquet_scan('x') IS NULL
sqlite_scan('a', 'b') IS NULL
http_get('http://x') IS NULL
st_astext(key) = ''
LOAD httpfs
CREATE MACRO f() AS true
PREPARE p AS SELECT true
EXECUTE p
EXPLAIN SELECT true
BEGIN; SELECT true
true EXCEPT SELECT false
a: true
TRY(error('x') IS NULL)
DEFAULT
key OPERATOR(pg_catalog.=) 'a'
create_sort_key(night, 'ASC') IS NULL
alias(night) = 'night'
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
    "len(list_filter(boxes.things, lambda a: len(list_filter(boxes.things, lambda b: b.x > a.x)) > 0)) > 0",
    "replace(key, '/', '-') = 'a-b' AND replace(weather, 'f', 'd') = 'dog'",
    "TRY(CAST(key AS INTEGER) = 1) AND (weather ->> '$.a') IS NULL AND [1, 2] && [2]",
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
def test_hidden_statements_do_not_survive(hidden: str) -> None:
    assert vet(f"night {hidden}", FRAME) == "attr.night"


def test_functions_are_scalar_and_depend_only_on_their_arguments() -> None:
    with duckdb.connect() as connection:
        rows = connection.execute("SELECT function_name, function_type, stability FROM duckdb_functions()").fetchall()
    assert {name for name, _, _ in rows} >= FUNCTIONS
    assert {row for row in rows if row[0] in FUNCTIONS and row[1:] != ("scalar", "CONSISTENT")} == set()


def test_a_predicate_with_a_growing_function_is_shorter() -> None:
    long = f"replace(key, 'a', '{'b' * 2000}') = 'b'"
    with pytest.raises(BadInput, match="at most 2000 characters"):
        vet(long, FRAME)


def test_only_columns_of_the_frame_are_accepted() -> None:
    canonical = vet("len(list_filter(boxes.things, lambda b: b.h > attr.height)) > 0 AND color = 'red'", FRAME)
    assert columns_of(canonical) == (("attr", "height"), ("boxes", "things"), ("label", "color"))


def test_near_names_are_suggested() -> None:
    with pytest.raises(BadInput, match="did you mean 'night'"):
        vet("nihgt", FRAME)


@pytest.mark.parametrize(
    "predicate",
    ["color = 'yelow'", "'yelow' <> label.color", "color IN ('red', 'yelow')", "NOT pred.color.value = 'yelow'"],
)
def test_a_class_that_the_task_does_not_have_is_refused(predicate: str) -> None:
    with pytest.raises(BadInput, match="color has no class 'yelow'; did you mean yellow"):
        vet(predicate, FRAME)


def test_words_that_only_look_like_classes_are_accepted() -> None:
    for predicate in ("weather = 'yelow'", "color LIKE 'yel%'", "state.color = 'unsure'", "color IS NULL"):
        assert vet(predicate, FRAME)
