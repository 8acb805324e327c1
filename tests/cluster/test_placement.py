"""From settings to what Ray must reserve, for machines this one is not."""

import pytest

from local_fusion.cluster.placement import Placement, Resources, check_fit, devices_for_turns, groups, place, whole_gpus
from local_fusion.config import ModelSettings
from local_fusion.errors import StartError

EIGHT = Resources(gpus=8, node_gpus=8, nodes=1)
TWO_NODES = Resources(gpus=16, node_gpus=8, nodes=2)
NONE = Resources()


def model(**settings: object) -> ModelSettings:
    return ModelSettings.model_validate({"path": "weights", **settings})


def test_one_gpu():
    assert place("m", model(), EIGHT) == Placement(1.0, "uni", 1.0)


def test_tensor_and_pipeline_parallel_on_one_node():
    assert place("m", model(tensor_parallel=2, pipeline_parallel=2), EIGHT) == Placement(4.0, "mp", 4.0)


def test_across_nodes():
    placement = place("m", model(tensor_parallel=8, pipeline_parallel=2, nodes=2), TWO_NODES)
    assert placement.executor == "ray"
    assert placement.actor_gpus == 0.0
    assert placement.bundles == ({"GPU": 1.0},) * 16 + ({"CPU": 1.0},)
    assert placement.strategy == "PACK"


def test_cpu_where_asked_or_where_there_is_no_gpu():
    assert place("m", model(gpus=0), EIGHT).on_cpu
    assert place("m", model(), NONE).on_cpu
    assert place("m", model(gpus=0.2), NONE).on_cpu
    assert place("m", ModelSettings(engine="scripted"), EIGHT).on_cpu


def test_a_fraction_shares_a_gpu():
    placement = place("m", model(gpus=0.25), EIGHT)
    assert placement.shares_a_gpu
    assert placement.actor_gpus == 0.25


@pytest.mark.parametrize(
    ("settings", "there", "says"),
    [
        ({"gpus": 1}, NONE, "Ray sees none"),
        ({"tensor_parallel": 16}, TWO_NODES, "16 GPUs on one node"),
        ({"gpus": 2.5}, EIGHT, "whole number"),
        ({"gpus": 3, "tensor_parallel": 4}, EIGHT, "tensor_parallel x pipeline_parallel"),
    ],
)
def test_what_cannot_be_placed_is_said(settings: dict[str, object], there: Resources, says: str):
    with pytest.raises(StartError, match=says):
        place("m", model(**settings), there)


def test_models_that_need_more_than_there_is():
    check_fit({"a": (4,), "b": (2, 2)}, EIGHT)
    with pytest.raises(StartError, match=r"need 9 GPUs \(a 4, b 5\), Ray sees 8"):
        check_fit({"a": (4,), "b": (5,)}, EIGHT)


def test_shares_fill_gpus_and_none_lies_across_two():
    assert whole_gpus([0.6, 0.6, 0.6]) == 3
    assert whole_gpus([0.4, 0.4, 0.6, 0.6]) == 2
    assert whole_gpus([0.1] * 10) == 1
    assert whole_gpus([2, 0.5, 0.0, 1, 0.5]) == 4
    two = Resources(gpus=2, node_gpus=2)
    with pytest.raises(StartError, match=r"need 3 GPUs \(a 0\.6, b 0\.6, c 0\.6\), Ray sees 2"):
        check_fit({"a": (0.6,), "b": (0.6,), "c": (0.6,)}, two)
    assert groups({"a": (0.6,), "b": (0.6,), "c": (0.6,)}, two) == (("a", "b"), ("c",))
    with pytest.raises(StartError, match="c: needs 3 GPUs"):
        groups({"c": (0.6, 0.6, 0.6)}, two)


def test_groups_fill_the_gpus_and_keep_every_model():
    split = groups({"a": (4,), "b": (8,), "c": (2,), "d": (1, 1), "e": (1,)}, EIGHT)
    assert sorted(name for names in split for name in names) == ["a", "b", "c", "d", "e"]
    assert split == (("b",), ("a", "c", "d"), ("e",))
    assert groups({"a": (1,), "b": (1,)}, EIGHT, each_alone=True) == (("a",), ("b",))
    with pytest.raises(StartError, match="needs 9 GPUs"):
        groups({"a": (9,)}, EIGHT)


def test_devices_of_a_group():
    devices = devices_for_turns(
        [Placement(1.0, "uni", 1.0), Placement(4.0, "mp", 4.0), Placement(0.5, "uni", 0.5), Placement(0.5, "uni", 0.5)],
        EIGHT,
    )
    assert devices == [(4,), (0, 1, 2, 3), (5,), (5,)]
    assert devices_for_turns([Placement(0.0, "uni", 0.0)], EIGHT) == [()]
    with pytest.raises(StartError, match="one node"):
        devices_for_turns([Placement(1.0, "uni", 1.0)], TWO_NODES)
    with pytest.raises(StartError, match="use fewer replicas"):
        devices_for_turns([Placement(6.0, "mp", 6.0), Placement(6.0, "mp", 6.0)], EIGHT)
