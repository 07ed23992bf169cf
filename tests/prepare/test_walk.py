"""Folders: what is left aside, links and loops, ignored files, source-code trees."""

import os
from pathlib import Path

import pytest

from genus.prepare.sources import find
from genus.prepare.walk import IGNORED, LINKS, SPECIAL, VENDORED, walk

from .samples import documents, items_at


def tree(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def names(root: Path, aside: dict[str, int]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in walk(root, aside)]


def test_gitignore_as_git_has_it(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            ".gitignore": "*.log\nbuild/\n/top.txt\n",
            **dict.fromkeys(
                ["a.txt", "a.log", "top.txt", "build/x.txt", "b/top.txt", "b/keep.log", "b/c/d.log", "b/build/y"], "t"
            ),
            "b/.gitignore": "!keep.log\n",
        },
    )
    aside: dict[str, int] = {}
    assert names(tmp_path, aside) == ["a.txt", "b/keep.log", "b/top.txt"]
    assert aside == {IGNORED: 5}


def test_links_and_loops_and_what_is_no_file(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    tree(outside, {"secret.txt": "s"})
    tree(root, {"a.txt": "t", "b/c.txt": "t"})
    (root / "b" / "up").symlink_to(root)
    (root / "out").symlink_to(outside)
    (root / "self.txt").symlink_to(root / "self.txt")
    (root / "gone.txt").symlink_to(root / "nothing")
    (root / "same.txt").symlink_to(root / "a.txt")
    os.mkfifo(root / "pipe.txt")  # opening it would wait for ever
    aside: dict[str, int] = {}
    assert names(root, aside) == ["a.txt", "same.txt", "b/c.txt"]
    assert aside == {LINKS: 2, SPECIAL: 3}
    assert len(find([root]).sources) == 2, "a link to a file is that file, once"
    for name, message in (("self.txt", "no regular file"), ("pipe.txt", "no regular file"), ("x.txt", "no such file")):
        with pytest.raises(ValueError, match=message):
            find([root / name])


def test_a_source_code_tree(tmp_path: Path) -> None:
    code = {f"src/m{i}.py": f"def f{i}(x):\n    return x + {i}\n" for i in range(12)}
    tree(
        tmp_path,
        code
        | {
            "README.md": "# Read me",
            "package.json": '{"name": "x"}',
            "web/index.html": "<p>template</p>",
            "node_modules/lib/index.js": "var x = 1;",
            "data/x.csv": "a,b\n1,2\n",
        },
    )
    found = find([tmp_path])
    assert [source.format for source in found.sources] == ["text", *["code"] * 12]
    assert found.skipped == {".json": 1, ".html": 1, VENDORED: 1, ".csv": 1}
    assert "a source-code tree (13 files of code)" in found.remarks[0]
    items = documents(items_at(tmp_path))
    assert {item.language for item in items} == {None, "python"} and items[1].name.endswith("src/m0.py")


def test_scripts_beside_texts_are_left_aside_unless_they_are_named(tmp_path: Path) -> None:
    tree(tmp_path, {"a.txt": "text", "download.py": "import sys\n"})
    found = find([tmp_path])
    assert [source.format for source in found.sources] == ["text"] and found.skipped == {".py": 1}
    assert [source.format for source in find([tmp_path / "*.py"]).sources] == ["code"]


def test_a_package_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, {"a.txt": "text", "b.pdf": "%PDF", "c.pdf": "%PDF"})
    monkeypatch.setattr("genus.prepare.sources.missing_package", lambda kind: "pip install it" if kind == "pdf" else None)
    found = find([tmp_path])
    assert found.skipped == {".pdf": 2} and found.remarks == [".pdf files are left aside: reading them needs pip install it"]
    with pytest.raises(ValueError, match=r"b\.pdf: .*pip install it"):
        find([tmp_path / "b.pdf"])
