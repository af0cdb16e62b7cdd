"""Fixtures that keep a test away from the user's records, folders and settings."""

import shutil

import pytest

from distil import config, records, run


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Empty results and artifacts of the test's own."""
    for module in (records, run):
        monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
        monkeypatch.setattr(module, "ARTIFACTS", tmp_path / "artifacts")
    monkeypatch.delenv("GLUE_DIR", raising=False)
    return tmp_path


@pytest.fixture
def configs(tmp_path, monkeypatch):
    """Return a function that writes ``<name>.yaml`` to a copy of configs/, which is then read."""
    shutil.copytree(config.CONFIGS, tmp_path / "configs")
    monkeypatch.setattr(config, "CONFIGS", tmp_path / "configs")

    def write(name, text):
        (tmp_path / "configs" / f"{name}.yaml").write_text(text, encoding="utf-8")
        config.tasks.cache_clear(), config.profile.cache_clear()

    write("mine", "")
    yield write
    config.tasks.cache_clear(), config.profile.cache_clear()
