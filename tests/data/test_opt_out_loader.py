"""A loader that heeds opt-outs: opted-out works are not there, and everybody else is where they were."""

from datetime import UTC, datetime

import numpy as np
import pytest

from expunge.data._pictures import Pictures, PictureSet
from expunge.data._records import Dataset, ImageRecords
from expunge.data.opt_out.loader import Heeding, enforce
from expunge.data.opt_out.signals import Protocol, Says, Signal, Signals

NOW = datetime(2026, 3, 1, tzinfo=UTC)
IDS = ("works/0", "works/1", "works/2", "works/3")
IMAGES = np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3) + 1


class Works:
    """Four works of two artists."""

    closed = False

    def open(self):
        texts = dict.fromkeys(("captions", "styles", "objects", "blocks"), ("a", "a", "b", "b"))
        works = Pictures(ids=IDS, images=IMAGES, **texts)
        return PictureSet(source="s", note="n", styles=("a",), objects=("o",), train=works, test=works)

    def close(self):
        self.closed = True


class Labelled(Works):
    """The same with labels."""

    def open(self):
        works = ImageRecords(ids=IDS, images=IMAGES, blocks=("a", "a", "b", "b"), labels=np.array([1, 2, 3, 4]))
        return Dataset(source="s", note="n", classes=("x",) * 5, train=works, test=works)


def said(**rows):
    return {
        f"works/{number.removeprefix('r')}": Signals(
            record=f"works/{number.removeprefix('r')}",
            crawled=NOW,
            signals=(Signal(protocol=Protocol.TDMREP, says=says, where="x", read=NOW, digest="0" * 64),),
        )
        for number, says in rows.items()
    }


@pytest.mark.parametrize("source", [Works, Labelled])
def test_an_opted_out_work_leaves_its_place_empty_and_nobody_moves(source):
    heeding = Heeding(source(), said(r1=Says.RESERVED, r2=Says.PERMITTED))
    train = heeding.open().train
    assert heeding.enforcement.absent == {1}
    assert len(train) == 4
    assert not train.images[1].any(), "its pixels are not there"
    assert np.array_equal(train.images[[0, 2, 3]], IMAGES[[0, 2, 3]])
    assert [train.ids[slot] for slot in (0, 2, 3)] == [IDS[0], IDS[2], IDS[3]]
    assert IDS[1] not in train.ids
    assert train.blocks == ("a", "", "b", "b")
    if source is Works:
        assert train.captions == ("a", "", "b", "b")
    else:
        assert train.labels.tolist() == [1, 0, 3, 4]


def test_without_a_reservation_the_data_is_what_it_was():
    heeding = Heeding(Works(), said(r1=Says.PERMITTED, r0=Says.SILENT))
    assert np.array_equal(heeding.open().train.images, IMAGES)
    assert heeding.enforcement.absent == frozenset()
    heeding.close()
    assert heeding.source.closed


def test_a_statement_that_cannot_be_read_keeps_the_work_out_and_is_counted_apart():
    found = enforce(IDS, said(r0=Says.UNREADABLE, r1=Says.RESERVED, r2=Says.SILENT))
    assert found.absent == {0, 1}
    assert found.said == {"reserved": 1, "permitted": 0, "silent": 2, "unreadable": 1}
    assert found.reserved_by["TDMRep"] == 1
    assert (found.rows, found.unrecorded) == (4, 1)


def test_a_row_nobody_recorded_anything_about_is_left_out_only_where_records_are_needed():
    assert enforce(IDS, said(r0=Says.SILENT), need_record=True).absent == {1, 2, 3}
    assert enforce(IDS, said(r0=Says.SILENT)).absent == frozenset()


def test_a_signal_about_another_record_touches_nobody():
    assert enforce(IDS, said(r9=Says.RESERVED)).absent == frozenset()
