"""write_images: one file for each figure."""

from __future__ import annotations

import os

import pytest

from hpolab import HpolabError, write_images


def test_images_are_written_one_a_figure(study_of, tmp_path):
    pytest.importorskip("kaleido")
    if not any(
        os.access(path, os.X_OK) for path in ("/usr/bin/chromium", "/usr/bin/google-chrome")
    ):
        pytest.skip("kaleido needs a Chrome or Chromium, which is not installed")
    written = write_images(study_of([0.3, 0.1, 0.2]), tmp_path / "images")
    assert {"history.svg", "parameter-x.svg"} <= {path.name for path in written}
    assert all(path.read_bytes().startswith(b"<svg") for path in written)


def test_images_without_a_chrome_say_what_is_missing(study_of, tmp_path, monkeypatch):
    kaleido = pytest.importorskip("kaleido")
    errors = pytest.importorskip("kaleido.errors")

    def find_no_chrome(*_, **__):
        raise errors.ChromeNotFoundError

    monkeypatch.setattr(kaleido, "write_fig_from_object_sync", find_no_chrome)
    with pytest.raises(HpolabError, match="Chrome or Chromium, and none is installed") as refused:
        write_images(study_of([0.3, 0.1, 0.2]), tmp_path / "images")
    assert isinstance(refused.value, FileNotFoundError)
