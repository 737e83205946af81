"""Who may change what in which region: the row decides, the environment only takes away."""

from datetime import UTC, datetime

import pytest

from dispatchd.domain.errors import RegionReadOnly
from dispatchd.domain.region import RegionFence, RegionMode, RegionRow

SINCE = datetime(2030, 1, 1, tzinfo=UTC)
ACTIVE = RegionRow("east", 3, RegionMode.ACTIVE, SINCE)
DRAINING = RegionRow("east", 3, RegionMode.DRAINING, SINCE)


@pytest.mark.parametrize(
    ("fence", "row", "takes_work", "may_change", "words"),
    [
        (RegionFence("east"), ACTIVE, True, True, ()),
        (RegionFence("east", 3), ACTIVE, True, True, ()),
        (RegionFence("east"), DRAINING, False, True, ("east", "draining", "epoch 3")),
        (RegionFence("west"), ACTIVE, False, False, ("west", "passive", "primary is 'east'")),
        (RegionFence("west"), DRAINING, False, False, ("primary is 'east'",)),
        (RegionFence("east", 2), ACTIVE, False, False, ("epoch 2", "epoch is 3", "'east'")),
        (RegionFence("east", 4), ACTIVE, False, False, ("epoch 4", "epoch is 3")),
        (RegionFence("east", 3, allow_mutations=False), ACTIVE, False, False, ("ALLOW_MUTATIONS",)),
    ],
)
def test_the_row_and_the_environment_together_decide(
    fence: RegionFence, row: RegionRow, takes_work: bool, may_change: bool, words: tuple[str, ...]
) -> None:
    assert (fence.why_no_new_work(row) is None) is takes_work
    assert (fence.why_read_only(row) is None) is may_change
    if takes_work:
        fence.check_takes_work(row)
        fence.check_may_change(row)
        return
    with pytest.raises(RegionReadOnly) as refused:
        fence.check_takes_work(row)
    assert all(word in str(refused.value) for word in words)
    if not may_change:
        with pytest.raises(RegionReadOnly):
            fence.check_may_change(row)
