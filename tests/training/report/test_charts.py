"""Charts: threads that draw at the same time draw what each draws alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from training.report.charts import Mark, unit_chart


def drawn(number: int) -> str:
    x = np.linspace(0, 1, 20)
    return unit_chart(f"curve {number}", x, x**number, across=f"x{number}", marks=[Mark(x=0.5, y=0.5, form=number % 2)])


def test_charts_of_several_threads_are_those_of_one() -> None:
    alone = [drawn(number) for number in range(1, 13)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(drawn, range(1, 13))) == alone
