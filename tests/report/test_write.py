"""write_report: written in one step or not at all, and refused with a reason."""

from __future__ import annotations

import os
import sys

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from hpolab import (
    FileNotWritten,
    HpolabError,
    InvalidArgument,
    InvalidType,
    MissingExtra,
    write_images,
    write_report,
)


def test_report_is_replaced_in_one_step(study_of, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("before")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(study_of([1.0]), path)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["report.html"]


def test_report_returns_its_path(study_of, tmp_path):
    assert write_report(study_of([1.0]), str(tmp_path / "a.html")) == tmp_path / "a.html"


def test_bad_arguments_are_refused(study_of, tmp_path):
    with pytest.raises(InvalidArgument, match="in a folder that exists"):
        write_report(study_of([1.0]), tmp_path / "no" / "report.html")
    with pytest.raises(InvalidType, match="got int"):
        write_report(3, tmp_path / "report.html")
    with pytest.raises(InvalidArgument, match="'svg'"):
        write_images(study_of([1.0]), tmp_path, format="gif")


@pytest.mark.parametrize("name", ["n" * 300, "file/report.html", "circle/report.html"])
def test_a_place_that_cannot_be_written_is_refused_by_our_own_error(study_of, tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(HpolabError, match=r"circle|file|nnn"):
        write_report(study_of([1.0]), tmp_path / name)


def test_images_need_a_folder_that_can_be_made(study_of, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotWritten, match=r"file/images': Not a directory"):
        write_images(study_of([1.0]), tmp_path / "file" / "images")


@pytest.mark.parametrize("package", ["plotly", "jinja2"])
def test_missing_package_names_the_extra(tmp_path, monkeypatch, package):
    study = optuna.create_study()
    ranges = {name: FloatDistribution(0.0, 1.0) for name in "xy"}
    for value in (0.25, 0.5):
        params = dict.fromkeys(ranges, value)
        study.add_trial(create_trial(value=value, params=params, distributions=ranges))
    for name in list(sys.modules):
        if name == package or name.startswith(f"{package}."):
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"pip install 'hpolab\[report\]'"):
        write_report(study, tmp_path / "report.html")
