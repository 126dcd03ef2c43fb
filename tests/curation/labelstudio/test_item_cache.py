"""The item cache: how far a project has been read, and where the next read starts."""

from curation.labelstudio.item_cache import Reach

AT = "2026-01-01T12:{:02d}:{:02d}.500000Z".format


def test_a_read_starts_a_minute_before_the_newest_change() -> None:
    reach = Reach().after(AT(10, 30), began=1_000, ended=1_001)
    assert (reach.newest, reach.sure[11:19]) == (AT(10, 30), "12:09:30")
    assert reach.after(AT(10, 30), began=1_050, ended=1_051).sure == reach.sure


def test_a_read_a_minute_later_returns_all_late_changes() -> None:
    reach = Reach().after(AT(10, 30), began=1_000, ended=1_001).after(AT(10, 30), began=1_061, ended=1_062)
    assert reach.sure == AT(10, 30)
    more = reach.after(AT(10, 50), began=1_070, ended=1_071)
    assert (more.newest, more.sure) == (AT(10, 50), AT(10, 30))


def test_a_long_read_counts_from_its_end() -> None:
    reach = Reach().after(AT(10, 30), began=1_000, ended=1_030)
    assert reach.after(AT(10, 30), began=1_080, ended=1_081).sure == reach.sure


def test_setting_our_clock_back_makes_nothing_sure() -> None:
    reach = Reach().after(AT(10, 30), began=9_000, ended=9_001)
    back = reach.after(AT(10, 30), began=1_000, ended=1_001)
    assert (back.sure, back.marked) == (reach.sure, 1_001)


def test_a_deleted_change_does_not_move_the_reach_back() -> None:
    reach = Reach().after(AT(10, 30), began=1_000, ended=1_001).after(AT(10, 30), began=1_061, ended=1_062)
    assert reach.after(AT(10, 5), began=1_063, ended=1_064).sure == AT(10, 30)
