from __future__ import annotations

from pathlib import Path

from workbench.paths import contents_hash


def test_a_hash_of_contents_changes_with_each_file_and_not_with_their_order(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.py", "b.py")]
    for path in paths:
        path.write_text(path.name, encoding="utf-8")
    before = contents_hash(paths)
    assert contents_hash(iter(paths[::-1])) == before
    for path in paths:
        path.write_text("other", encoding="utf-8")
        assert contents_hash(paths) != before
        path.write_text(path.name, encoding="utf-8")
    assert contents_hash(paths) == before
