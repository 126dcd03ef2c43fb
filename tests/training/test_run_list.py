"""The list of runs: the newest first, however quickly they follow each other."""

from pathlib import Path

from curation.catalog.catalog import Catalog
from training.run_list import list_runs, run_page


def test_runs_of_one_second_are_listed_in_the_order_of_their_commits(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path)
    names = ["b", "d", "a", "c", "e"]
    for name in names:
        with catalog.commit(author="ada", message="run") as change:
            change.add_run(name, plan="", predictions="none.parquet", sha256="0" * 64)
    with catalog.read() as now:
        assert [entry.run for entry in list_runs(tmp_path, now)] == names[::-1]
        first, after = run_page(tmp_path, now, limit=2)
        second, _ = run_page(tmp_path, now, after, limit=2)
        assert [entry.run for entry in (*first, *second)] == names[:0:-1]
