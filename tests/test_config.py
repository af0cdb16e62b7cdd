"""Settings: every committed profile loads, and every wrong value gives one line."""

import pytest
import yaml

from distil import config
from distil.config import ConfigError

PROFILES = ["paper", "offline", "glue", "own", "smoke"]


@pytest.fixture
def configs(tmp_path, monkeypatch):
    """A copy of configs/ that a test may edit, and a function that writes a profile there."""
    for path in config.CONFIGS.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(config, "CONFIGS", tmp_path)
    caches = (config.tasks, config.profile, config.arms)
    for cached in caches:
        cached.cache_clear()
    yield lambda name, text: (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("profile", PROFILES)
def test_every_setting_of_every_arm_and_task_is_valid(profile):
    for name, arm in config.arms(profile).items():
        for task in arm.tasks or config.tasks():
            for stage in ("data", *config.STAGES, "speed"):
                config.settings(profile, stage, task, name)


def test_the_paper_profile_has_the_papers_values():
    transfer = config.settings("paper", "transfer-set", "sst2")
    assert (transfer.p_mask, transfer.p_pos, transfer.p_ng) == (0.1, 0.1, 0.25)
    draws = [config.settings("paper", "transfer-set", t).n_iter for t in ("sst2", "qqp", "mnli")]
    sizes = [config.settings("paper", "student", t).batch_size for t in ("sst2", "qqp", "mnli")]
    assert draws == [20, 10, 10] and sizes == [50, 256, 256]
    student = config.settings("paper", "student", "sst2")
    assert (student.lr, student.rho, student.alpha, student.objective) == (1.0, 0.95, 0.0, "mse")
    rates = config.settings("paper", "teacher", "sst2").learning_rates
    assert rates == [2e-5, 3e-5, 4e-5, 5e-5]


@pytest.mark.parametrize("profile", PROFILES[1:])
def test_a_profile_holds_only_what_differs_from_the_paper(profile):
    own = dict(
        config._leaves(yaml.load((config.CONFIGS / f"{profile}.yaml").read_text(), config._Loader))
    )
    paper = dict(config._leaves(config._read("paper.yaml")))
    assert own and not [key for key, value in own.items() if paper.get(key) == value]
    told = "\n".join(config.departures(profile))
    assert "teacher.model" in told and "p_mask" not in told


def test_layers_go_from_profile_to_task_to_arm():
    epochs = [
        config.settings("offline", "student", *names).epochs
        for names in (("sst2",), ("qqp",), ("qqp", "plain"), ("sst2", "share-10"))
    ]
    assert epochs == [6, 10, 40, 20]


@pytest.mark.parametrize(
    ("arm", "own"),
    [
        ("distilled", ["teacher", "transfer-set", "student"]),
        ("plain", ["student"]),
        ("no-mask", ["transfer-set", "student"]),
        ("kl", ["student"]),
        ("mpnet", ["teacher", "transfer-set", "student"]),
    ],
)
def test_an_arm_owns_what_follows_its_first_change(arm, own):
    assert [stage for stage in config.STAGES if config.made_by("glue", arm, stage) == arm] == own


@pytest.mark.parametrize(("text", "said"), [
    ("student: {lr: 2e-5}", None),
    ("student: {lr: fast}", "student: lr: Input should be a valid number, got 'fast'"),
    ("student: {alpha: 1.5}", "alpha: Input should be less than or equal to 1, got 1.5"),
    ("student: {hiden_size: 3}", "hiden_size: Extra inputs are not permitted (known: vectors,"),
    ("student: {epochs: 0}", "epochs: Input should be greater than or equal to 1, got 0"),
    ("student: {vectors: 50}", "vectors: Input should be a valid string, got 50; write it in"),
    ("transfer_set: {p_mask: 0.9, p_pos: 0.2}", "p_mask + p_pos must not exceed 1"),
    ("teacher: {precision: half}", "precision: Input should be 'auto', 'bfloat16' or 'float32'"),
    ("techer: {epochs: 1}", "unknown key 'techer'"),
    ("arms: {odd: {studnt: {lr: 1.0}}}", "arm odd: unknown stage 'studnt'"),
    ("student: [", "not valid YAML"),
])  # fmt: off
def test_a_wrong_value_is_one_line_that_names_file_and_key(configs, text, said):
    configs("mine", text)

    def use():
        config.arms("mine")
        return [config.settings("mine", stage, "sst2") for stage in config.STAGES]

    if said is None:
        assert use()[2].lr == 2e-5
        return
    with pytest.raises(ConfigError) as caught:
        use()
    message = str(caught.value)
    assert said in message and "configs/mine.yaml" in message
    assert "\n" not in message and len(message) <= 500


@pytest.mark.parametrize("labels", ["[001, 002]", "[1.0, 2.0]", "[1:30, 2:30]", "[yes, no]"])
def test_labels_that_yaml_does_not_read_as_text_ask_for_quotes(configs, labels):
    configs("tasks", f"spam:\n  text: [message]\n  label: kind\n  labels: {labels}\n")
    with pytest.raises(ConfigError, match=r"tasks.yaml, spam: labels.0: .*write it in quotes"):
        config.tasks()


def test_a_task_of_ones_own_in_block_style(configs):
    configs("tasks", "spam:\n  text: [message]\n  label: kind\n  labels: ['no', 'yes']\n")
    spam = config.task("spam")
    assert (spam.folder, spam.meanings, spam.in_paper) == ("spam", ["no", "yes"], False)
    assert spam.splits["test"].file == "test.tsv" and spam.columns == ("sentence1",)


@pytest.mark.parametrize(("call", "said"), [
    (lambda: config.profile("nope"), "unknown profile 'nope': configs/ has glue, offline"),
    (lambda: config.task("nope"), "unknown task 'nope': configs/tasks.yaml has sst2"),
    (lambda: config.arm("smoke", "nope"), "unknown arm 'nope'"),
    (lambda: config.arm("smoke", "no-mask", "mnli"), "arm 'no-mask' is for sst2, got 'mnli'"),
])  # fmt: off
def test_an_unknown_name_lists_the_known_ones(call, said):
    with pytest.raises(ConfigError, match=said):
        call()
