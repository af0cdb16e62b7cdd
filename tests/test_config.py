"""Every committed config loads; every wrong one is refused by a message that names the file and the fix."""

import pytest
import yaml

from distil import config, paths
from distil.config import ConfigError, StudentConfig, TransferConfig, load
from distil.tasks import PAPER

PROFILES = ["smoke", "offline", "glue", "paper"]  # those of the repository; a user's own are the user's


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("step", config.STEPS)
@pytest.mark.parametrize("task", PAPER)
def test_every_committed_config_loads(profile, step, task):
    for role in ("", *config.ROLES):
        assert isinstance(load(profile, step, task, role), config.STEPS[step])


def test_roles_and_tasks_override():
    baseline, distilled = (load("offline", "student", "sst2", role) for role in config.ROLES)
    assert (baseline.alpha, baseline.synthetic, distilled.alpha, distilled.synthetic) == (1.0, 0.0, 0.0, 1.0)
    assert load("offline", "student", "mnli").batch_size == 256 and distilled.batch_size == 50


def test_the_paper_profile_has_the_papers_values():
    for task, n_iter, batch_size in (("sst2", 20, 50), ("qqp", 10, 256), ("mnli", 10, 256)):
        transfer, student = load("paper", "transfer_set", task), load("paper", "student", task)
        assert (transfer.p_mask, transfer.p_pos, transfer.p_ng, transfer.n_iter) == (0.1, 0.1, 0.25, n_iter)
        assert (student.alpha, student.lr, student.rho, student.batch_size) == (0.0, 1.0, 0.95, batch_size)
    assert load("paper", "teacher", "sst2").learning_rates == [2e-5, 3e-5, 4e-5, 5e-5]


@pytest.mark.parametrize("profile", PROFILES)
def test_an_arm_remakes_all_that_follows_its_stage(profile):
    arms = config.arms(profile)
    assert arms["no-mask"].changes_of("transfer_set") == {"p_mask": 0.0} and not arms["no-mask"].changes_of("student")
    remade = {name: [stage for stage in config.STAGES if arm.remakes(stage)] for name, arm in arms.items()}
    assert remade["separate"] == ["teacher", "transfer_set", "student"]
    assert remade["no-ngram"] == ["transfer_set", "student"] and remade["kl"] == ["student"]


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("{student: {alpha: 1.0}}", "arm x: wanted {task: one of"),
        ("{task: cola, student: {alpha: 1.0}}", "arm x: wanted"),
        ("{task: sst2}", "arm x: wanted"),
        (
            "{task: sst2, student: {alpha: 1.0}, teacher: {epochs: 1}}",
            "write it on a line .* '  x: {task: sst2, teacher: {",
        ),
        ("{task: sst2, student: {alfa: 1.0}}", "unknown key .'alfa'"),
        ("3", "arm x: wanted"),
        ("{student: {alpha: 1.0}, task: sst2}", "write it on a line as Make reads it: '  x: {task: sst2, student: {"),
        ("\n    task: sst2\n    student: {alpha: 1.0}", "write it on a line"),
    ],
)
def test_a_wrong_arm_is_refused(tmp_path, monkeypatch, text, wanted):
    (tmp_path / "mine").mkdir()
    for name in ("student", "teacher"):
        text_of = (paths.CONFIGS / "smoke" / f"{name}.yaml").read_text(encoding="utf-8")
        (tmp_path / "mine" / f"{name}.yaml").write_text(text_of, encoding="utf-8")
    monkeypatch.setattr(paths, "CONFIGS", tmp_path)
    (tmp_path / "mine" / "ablation.yaml").write_text(f"arms:\n  x: {text}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=wanted):
        config.arms("mine")
    good = "{task: sst2, student: {alpha: 1.0}}"
    (tmp_path / "mine" / "ablation.yaml").write_text(f"arms:\n  x: {good}\n", encoding="utf-8")
    assert config.arms("mine")["x"].changed() == {"alpha": 1.0}
    both = "{task: sst2, teacher: {epochs: 1}, student: {alpha: 1.0}}"
    (tmp_path / "mine" / "ablation.yaml").write_text(f"arms:\n  x: {both}\n", encoding="utf-8")
    arm = config.arms("mine")["x"]
    assert arm.stage == "teacher" and all(arm.remakes(stage) for stage in config.STAGES)
    assert [arm.changes_of(stage) for stage in config.STAGES] == [{"epochs": 1}, {}, {"alpha": 1.0}]
    for name in (
        "teacher",
        "x-teacher",
        "x-transfer-set",
        "X",
    ):  # files of other runs are called so, or Make does not read it
        (tmp_path / "mine" / "ablation.yaml").write_text(f"arms:\n  {name}: {good}\n", encoding="utf-8")
        with pytest.raises(ConfigError, match="a name is of"):
            config.arms("mine")


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """A profile of our own whose transfer_set.yaml a test may spoil."""
    values = yaml.safe_load((paths.CONFIGS / "smoke" / "transfer_set.yaml").read_text(encoding="utf-8"))
    monkeypatch.setattr(paths, "CONFIGS", tmp_path)
    (tmp_path / "mine").mkdir()

    def write(text=None, drop="", **changes):
        kept = {key: value for key, value in (values | changes).items() if key != drop}
        path = tmp_path / "mine" / "transfer_set.yaml"
        path.write_text(text if text is not None else yaml.safe_dump(kept), encoding="utf-8")
        return load("mine", "transfer_set", "sst2")

    return write


@pytest.mark.parametrize(
    "change, wanted",
    [
        ({"p_mas": 0.1}, r"mine/transfer_set.yaml: unknown key \['p_mas'\]"),
        ({"drop": "n_iter"}, r"missing key \['n_iter'\]"),
        ({"p_mask": "1e-1"}, "p_mask must be float, got '1e-1' .*write 2.0e-5"),
        ({"n_iter": 2.5}, "n_iter must be int, got 2.5"),
        ({"n_iter": True}, "n_iter must be int, got True"),
        ({"tagger": "best"}, "tagger must be one of"),
        ({"p_mask": 0.7, "p_pos": 0.7}, "must not exceed 1"),
        ({"p_ng": -0.1}, "p_ng is a probability"),
        ({"tasks": {"cola": {"n_iter": 3}}}, r"unknown key \['cola'\] under 'tasks:'"),
        ({"tasks": None}, "'tasks:' must hold"),
        ({"tasks": {"sst2": None}}, "'tasks:' must hold"),
        ({"n_iter": -1}, "n_iter must be at least 0, got -1"),
        ({"token_budget": 0}, "token_budget must be at least 1, got 0"),
        ({"text": "a: [1"}, "not valid YAML"),
        ({"text": "- 1"}, "must hold 'key: value'"),
    ],
)
def test_a_wrong_config_is_refused(profile, change, wanted):
    with pytest.raises(ConfigError, match=wanted):
        profile(**change)


def test_a_missing_file_is_named(profile):
    profile()
    with pytest.raises(ConfigError, match=r"configs/mine/student.yaml is missing"):
        load("mine", "student", "sst2")


def test_a_whole_number_serves_as_a_float(profile):
    assert profile(p_mask=0).p_mask == 0.0 and isinstance(profile(p_mask=0).p_mask, float)


def test_unknown_profile_and_task_list_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown profile 'ofline'.*offline"):
        load("ofline", "data", "sst2")
    with pytest.raises(ConfigError, match=r"unknown task 'cola'.*sst2"):
        load("offline", "data", "cola")


def test_values_typed_into_a_notebook_are_checked_too():
    with pytest.raises(ConfigError, match="channels must be one of"):
        StudentConfig("random:4", 0, "both", 4, 4, "last", 0.0, "mse", 1.0, 0.0, 1.0, 0.0, 1, 0, 2, 1.0, 0.95)
    with pytest.raises(ConfigError, match="alpha"):
        StudentConfig("random:4", 0, "tuned", 4, 4, "last", 0.0, "mse", 1.0, 1.5, 1.0, 0.0, 1, 0, 2, 1.0, 0.95)
    with pytest.raises(ConfigError, match="token_budget must be int"):
        TransferConfig(1, 0.1, 0.1, 0.1, "toy", "many")
