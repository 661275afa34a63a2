"""What a deletion leaves in the vocabulary of items, and what another pipeline would make of it."""

from expunge.data.interactions import InteractionsFile
from recommending import finding, make, rows_of, write_rows


def test_what_a_pipeline_run_from_scratch_would_drop_is_what_it_drops(tmp_path):
    """Two references: the vocabulary is frozen here, and a full pipeline would filter items anew. The twin runs that filter."""
    source, least = tmp_path / "events.csv", 3
    options = {"min_item_events": least}
    extra = [(user, f"k{n}", 4.0, 10**9) for n in range(4) for user in ("solo", "u001", "u002", "u003")[: 3 + (n > 2)]]
    rows = [*rows_of(), *extra]
    write_rows(source, rows)
    with make(tmp_path / "ws", data={"source": "interactions", "path": str(source), "options": options}) as workspace:
        outcome = workspace.run(workspace.request(ids=["user/solo"]))
        frozen = workspace.data.train.items
        said = finding(outcome, "census").details
    write_rows(tmp_path / "again.csv", [row for row in rows if row[0] != "solo"])
    again = InteractionsFile(path=str(tmp_path / "again.csv"), min_item_events=least).open().train
    fallen = set(frozen) - set(again.items)
    assert fallen == {"item/k0", "item/k1", "item/k2"}
    assert said["cascade_items"] == str(len(fallen))
    assert said["cascade_events"] == str(sum(f"item/{row[1]}" in fallen for row in rows) - 3)
