from __future__ import annotations

import copy
import pickle

import pytest

from probebench.catalog.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, TASKS, get_task, task_of_metric
from probebench.errors import UnknownName


def test_each_task_writes_its_scores():
    assert CLASSIFICATION.text(0.8741) == "87.4%"
    assert CLASSIFICATION.interval((0.851, 0.894)) == "85.1-89.4"
    assert CLASSIFICATION.points(-0.039) == "-3.9 points"
    assert MULTILABEL.text(0.7124) == "mAP 0.712"
    assert MULTILABEL.points(0.0391) == "+0.039"
    assert MULTILABEL.interval((0.69, 0.731), "–") == "0.690–0.731"
    assert REGRESSION.interval((-0.102, 0.028)) == "-0.102 to 0.028"
    assert REGRESSION.number(-0.0001) == "0.000"
    assert [task.heading for task in TASKS.values()] == ["acc %", "mAP", "R2"]
    assert MULTILABEL.number(None) == REGRESSION.change(None) == CLASSIFICATION.number(None) == ""


def test_a_metric_tells_the_task():
    assert {metric: task_of_metric(metric) for metric in ("top1", "mean_per_class", "map", "r2", "")} == {
        "top1": CLASSIFICATION,
        "mean_per_class": CLASSIFICATION,
        "map": MULTILABEL,
        "r2": REGRESSION,
        "": CLASSIFICATION,
    }


def test_there_is_one_object_of_each_task():
    for name, task in TASKS.items():
        assert get_task(name) is task
        assert pickle.loads(pickle.dumps(task)) is task
        assert copy.deepcopy(task) is task
    with pytest.raises(UnknownName, match="unknown task 'multi'"):
        get_task("multi")
