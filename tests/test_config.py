"""Settings: every committed profile loads, and every wrong value gives one line."""

import pytest

from distil import config, run
from distil.config import ConfigError

PROFILES = ["paper", "offline", "glue", "own", "smoke"]
SECTIONS = {name: field.annotation for name, field in config.Profile.model_fields.items()}
SECTIONS = {name: SECTIONS[name].model_fields for name in list(SECTIONS)[:5]}
FIELDS = [(section, key) for section, fields in SECTIONS.items() for key in fields]
LISTS = ("learning_rates", "batch_sizes", "models")
ANY_TEXT = [("data", "source"), ("teacher", "model"), ("student", "vectors")]
SPAM = "spam: {text: [message], label: kind, labels: %s}\n"
FAULTS = ["tasks: 3", "tasks: {sst2: 3}", "tasks: {sst2: {studnt: {lr: 1.0}}}"]
FAULTS += ["tasks: {sst3: {student: {lr: 1.0}}}", "arms:", "arms: {odd: {tasks: [sst3]}}"]
FAULTS += ["ablation:", "ablation: {seeds: 0}", "ablation: {sedes: [0]}", "ablation: {quick: [no]}"]
WRONG = [(text, text.split(":")[0]) for text in FAULTS] + [
    ("student: {vectors: 1:30}", "vectors: Input should be a valid string, got 90; write it"),
    ("student: {synthetic: 1.5}", "synthetic: Input should be less than or equal to 1, got"),
    ("transfer_set: {p_mask: 0.9, p_pos: 0.2}", "p_mask + p_pos must not exceed 1"),
    ("techer: {epochs: 1}", "unknown key 'techer': this section has data, teacher, "),
    ("arms: {odd: {studnt: {lr: 1.0}}}", "arms.odd: unknown key 'studnt': this section has tasks"),
    ("arms: {odd: {student: {lx: 1.0}}}", "student: StudentSettings: unknown key 'lx'"),
    ("arms: {Odd: {}}", "arms.Odd.[key]: String should match pattern "),
    ("student: [", "not valid YAML"),
    ("student: {lr: 1.0}\nstudent: {rho: 0.5}", "the key 'student' twice, from line 1"),
]
for name, keys in SECTIONS.items():
    said = f"configs/mine.yaml: {name}: unknown key 'odd': this section has {next(iter(keys))}, "
    WRONG.append((f"{name}: {{odd: 1}}", said))


def use():
    """Read all that the profile ``mine`` says, as a run of every arm does."""
    run.graph("mine", ["sst2"], [0], ablation=True)
    config.settings("mine", "student", "sst2", list(config.profile("mine").arms)[-1])
    for section in SECTIONS:
        config.settings("mine", section, "sst2")


def refused(*said):
    """Read ``mine``, and check the one line that comes."""
    with pytest.raises(ConfigError) as caught:
        use()
    message = str(caught.value)
    assert all(s in message for s in said) and "\n" not in message and len(message) <= 500, message


def test_the_paper_profile_has_the_papers_values():
    for task, n_iter, batch in (("sst2", 20, 50), ("qqp", 10, 256), ("mnli", 10, 256)):
        made = config.settings("paper", "transfer-set", task)
        assert (made.p_mask, made.p_pos, made.p_ng, made.n_iter) == (0.1, 0.1, 0.25, n_iter)
        student = config.settings("paper", "student", task)
        assert student.channels == "multichannel" and student.batch_size == batch
        assert (student.lr, student.rho, student.alpha, student.objective) == (1, 0.95, 0, "mse")
        teacher = config.settings("paper", "teacher", task)
        assert teacher.learning_rates == [2e-5, 3e-5, 4e-5, 5e-5] and teacher.weight_decay == 0.01
        assert (teacher.epochs, teacher.batch_size, teacher.warmup) == (3, 32, 0.1)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_valid_and_holds_only_what_differs_from_the_paper(profile):
    """An arm owns what follows its first change."""
    first = {"distilled": 0, "mpnet": 0, "no-mask": 1, "no-pos": 1, "no-ngram": 1}
    first |= {"trigram": 1, "mixed": 1}
    for name, arm in config.profile(profile).arms.items():
        owners = [config.made_by(profile, name, stage) for stage in config.STAGES]
        start = first.get(name, 2)
        assert owners == ["distilled"] * start + [name] * (3 - start), name
        for task in arm.tasks or config.tasks():
            for section in SECTIONS:
                config.settings(profile, section, task, name)
    own, paper = (dict(config._leaves(config._read(f"{p}.yaml"))) for p in (profile, "paper"))
    same = [key for key in own if key in paper and own[key] == paper[key]]
    assert own and (not same or profile == "paper")


def test_layers_go_from_profile_to_task_to_arm_and_departures_are_named(configs):
    names = (("sst2",), ("qqp",), ("qqp", "plain"), ("sst2", "share-10"))
    assert [config.settings("offline", "student", *n).epochs for n in names] == [6, 10, 40, 20]
    configs("mine", "student: {epochs: 3, lr: 1.0}\ntasks: {sst2: {student: {rho: 0.5}}}\n")
    lines = ["student.epochs: 3 (paper.yaml: 30)", "tasks.sst2.student.rho: 0.5"]
    assert config.departures("mine") == [lines[0], f"{lines[1]} (paper.yaml: not set)"]
    assert config.departures("paper") == []


@pytest.mark.parametrize(("section", "key"), FIELDS)
def test_a_wrong_type_or_a_value_out_of_range_is_one_line(configs, section, key):
    text = (section, key) in ANY_TEXT
    configs("mine", f"{section}: {{{key}: {7 if key in LISTS or text else repr('7')}}}")
    refused(f"configs/mine.yaml: {section}.{key}: Input should be ", "got 7" if text else "got ")
    if not text:
        configs("mine", f"{section}: {{{key}: {[-1] if key in LISTS else -1}}}")
        refused(f"configs/mine.yaml: {section}.{key}", "Input should be ", "got -1")


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_other_wrong_lines(configs, text, said):
    configs("mine", text)
    refused(said, "configs/mine.yaml")


UNQUOTED = ["[001, 002]", "[1.0, 2.0]", "[1:30, 2:30]", "[yes, no]"]
UNFIT = [(labels, "labels.0: .* write it in quotes$") for labels in UNQUOTED]
UNFIT += [("[a, b, a]", "each label once"), ("[a, b], meanings: [c]", "one of meanings for each")]
UNFIT += [("[a, b], f1: true", "f1: .* got True; "), ("[a, b], f1: c", "f1 names .* 'b'")]


@pytest.mark.parametrize(("labels", "said"), UNFIT)
def test_labels_that_do_not_fit_are_one_line(configs, labels, said):
    configs("tasks", SPAM % labels)
    with pytest.raises(ConfigError, match=rf"^configs/tasks.yaml, spam: .*{said}"):
        config.tasks()


def test_numbers_with_an_exponent_and_a_task_of_ones_own(configs):
    rates = "teacher: {learning_rates: [2e-5, 1.5E-4, 1e-4]}"
    configs("mine", "student: {lr: 2e-5, rho: 1e-4}\n" + rates)
    student, teacher = (config.settings("mine", name, "sst2") for name in ("student", "teacher"))
    assert (student.lr, student.rho) == (0.00002, 0.0001)
    assert teacher.learning_rates == [0.00002, 0.00015, 0.0001]
    configs("tasks", "spam:\n  text:\n  - message\n  label: kind\n  labels:\n  - 'no'\n  - 'yes'\n")
    spam = config.task("spam")
    assert (spam.folder, spam.meanings, spam.columns) == ("spam", ["no", "yes"], ("sentence1",))
    with pytest.raises(ConfigError, match=r"parameters: epochs: .* got 0"):  # a chapter's cell
        config.StudentSettings.of(student.model_dump() | {"profile": "mine", "epochs": 0})
