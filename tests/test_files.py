"""Files are whole at every moment, whoever writes them and however the writing ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from hpolab.files import remove_leftovers, replace_file

_KILLED_WHILE_WRITING = """
import os, signal, sys
os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)
from hpolab.files import replace_file
replace_file(sys.argv[1], "new", durable=True)
"""


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("content", [b"new\r\n", "new\r\n"], ids=["bytes", "str"])
def test_the_file_holds_the_content_and_nothing_stands_beside_it(tmp_path, content, durable):
    path = tmp_path / "file [1].txt"
    path.write_text("old")
    replace_file(path, content, durable=durable)
    assert path.read_bytes() == b"new\r\n"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_that_write_one_file_at_once_leave_one_whole_content(tmp_path):
    path = tmp_path / "file"
    contents = [str(number) * 200_000 for number in range(4)]
    start = threading.Barrier(len(contents))

    def write(content):
        start.wait()
        for _ in range(20):
            replace_file(path, content)
            assert path.read_text() in contents

    with ThreadPoolExecutor(len(contents)) as threads:
        for finished in [threads.submit(write, content) for content in contents]:
            finished.result()
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "file"
    replace_file(path, "old")

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, "new", durable=True)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_move_that_fails_leaves_no_litter(tmp_path):
    folder = tmp_path / "folder"
    (folder / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        replace_file(folder, "new")
    assert list(tmp_path.iterdir()) == [folder]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such"):
        replace_file(tmp_path / "no-such" / "file", "new")


def test_a_killed_process_leaves_the_old_file_and_what_it_left_can_be_removed(tmp_path):
    path, other = tmp_path / "file", tmp_path / "file.2.0a1b.tmp"
    path.write_text("old")
    other.write_text("of file.2, and perhaps being written")
    killed = subprocess.run([sys.executable, "-c", _KILLED_WHILE_WRITING, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 3
    remove_leftovers(path)
    assert sorted(tmp_path.iterdir()) == [path, other]
