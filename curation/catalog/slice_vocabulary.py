"""The functions and types that a slice may use.

The list holds scalar functions whose result depends only on their arguments: not on the clock, the session, its time
zone, files, or the version of DuckDB (as `hash` does), and is about as long as the arguments. It names what is allowed,
so a function that is new in a later DuckDB is refused until it has been reviewed.
"""

from typing import Final

__all__ = ["COPYING", "FUNCTIONS", "GROWING", "PATTERNS", "QUADRATIC", "REGULAR", "SPLITTING", "TYPES"]

OPERATORS: Final = "+ - * ** / // % ^ & | << >> ~ @ xor ^@ || && @> <@ ->> ~~ !~~ ~~* !~~* ~~~"

NUMBERS: Final = """
abs acos add asin atan atan2 bit_count cbrt ceil ceiling cos cot degrees divide even exp floor gcd greatest isfinite
isinf isnan lcm least ln log log10 log2 mod multiply pi pow power radians round sign signbit sin sqrt subtract tan trunc
"""

TEXTS: Final = """
ascii bit_length char_length character_length chr concat contains damerau_levenshtein editdist3 ends_with
hamming ilike_escape instr jaccard jaro_similarity jaro_winkler_similarity lcase left length levenshtein like_escape
lower ltrim md5 mismatches not_ilike_escape not_like_escape octet_length ord parse_dirname parse_dirpath parse_filename
parse_path position prefix regexp_extract regexp_extract_all regexp_full_match regexp_matches regexp_split_to_array
reverse right rtrim sha1 sha256 split starts_with str_split str_split_regex string_split string_split_regex
string_to_array strip_accents strlen strpos substr substring suffix translate trim ucase unicode upper
json_array_length json_contains json_exists json_extract_string json_valid
"""

TIMES: Final = """
century date_diff date_part date_sub date_trunc datediff datepart datesub datetrunc day dayname dayofmonth dayofweek
dayofyear decade epoch epoch_ms epoch_us era hour isodow isoyear last_day make_date make_time make_timestamp microsecond
millennium millisecond minute month monthname quarter second strftime strptime time_bucket to_centuries to_days
to_decades to_hours to_microseconds to_millennia to_milliseconds to_minutes to_months to_quarters to_seconds to_weeks
to_years try_strptime week weekday weekofyear year yearweek
"""

NESTED: Final = """
array_contains array_extract array_has array_has_all array_has_any array_length array_position array_slice cardinality
element_at filter flatten len list_contains list_element list_extract list_filter list_has list_has_all list_has_any
list_position list_reverse_sort list_slice list_sort list_unique list_value map map_contains map_entries map_extract
map_extract_value map_keys map_values row struct_extract struct_pack
"""

SPLITTING: Final = {
    "regexp_extract_all", "regexp_split_to_array", "split", "str_split", "str_split_regex", "string_split",
    "string_split_regex", "string_to_array",
}  # fmt: skip
"""Functions that make a list of the parts of a text."""

COPYING: Final = {
    "lcase", "left", "lower", "ltrim", "regexp_extract", "reverse", "right", "rtrim", "strip_accents", "substr",
    "substring", "suffix", "translate", "trim", "ucase", "upper", "json_extract_string", "list_sort",
    "list_reverse_sort", "list_slice", "array_slice", "filter", "list_filter", "parse_path", "parse_dirname",
    "parse_dirpath", "parse_filename",
}  # fmt: skip
"""Functions whose result may be as long as a text that they are given."""

GROWING: Final = {
    "concat_ws": 2, "list_apply": 1, "list_transform": 1, "regexp_replace": 2, "replace": 2, "flatten": 1,
    **dict.fromkeys(SPLITTING, 1),
}  # fmt: skip
"""Functions whose result may be as long as the product of their arguments, with weights: nested calls may weigh at most
2 in total (a list comprehension is two `list_apply`), because a chain of them grows exponentially. Texts split into
lists count too: each letter becomes 16 bytes. Not allowed at all are functions whose result a number makes long
(`repeat`, `lpad`, `format`, `bar`, `range`), those that double their argument (`hex`), and `list_reduce`, which can
double it once per entry."""

FUNCTIONS: Final = {*GROWING, *f"{OPERATORS} {NUMBERS} {TEXTS} {TIMES} {NESTED}".split()}

QUADRATIC: Final = {
    "damerau_levenshtein", "editdist3", "jaro_similarity", "jaro_winkler_similarity", "levenshtein",
}  # fmt: skip
"""Functions that take time in proportion to the product of the lengths of two texts."""

REGULAR: Final = {
    "regexp_extract", "regexp_extract_all", "regexp_full_match", "regexp_matches", "regexp_replace",
    "regexp_split_to_array", "str_split_regex", "string_split_regex",
}  # fmt: skip
"""Functions whose second argument is a regular expression: one that is no constant is compiled for every row."""

PATTERNS: Final = {
    **dict.fromkeys(("~~", "!~~", "~~*", "!~~*"), "%"),
    **dict.fromkeys(("like_escape", "not_like_escape", "ilike_escape", "not_ilike_escape"), "%"),
    "~~~": "*",
}  # fmt: skip
"""Operators that match a pattern (LIKE, ILIKE, GLOB), with the wildcard for any text: they backtrack."""

TYPES: Final = {
    "BIGINT", "BOOLEAN", "DATE", "DECIMAL", "DOUBLE", "FLOAT", "HUGEINT", "INTEGER", "INTERVAL", "LIST", "MAP",
    "SMALLINT", "STRUCT", "TIME", "TIMESTAMP", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP_S", "TINYINT", "UBIGINT",
    "UINTEGER", "USMALLINT", "UTINYINT", "VARCHAR",
}  # fmt: skip
"""Types that a slice may cast to: none with a time zone, which depends on the session, and none of an extension."""
