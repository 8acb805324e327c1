"""Models that take turns on GPUs are told which, leave room for those asleep, and can sleep."""

from __future__ import annotations

import pytest

from local_fusion.cluster.placement import Resources
from local_fusion.cluster.plan import SHARE_OF_A_SLEEPER, make_plan
from local_fusion.config import parse_config
from local_fusion.config.machine import free_memory_bytes

CONFIG = """
models:
  ada: {path: weights, gpus: 2, tensor_parallel: 2}
  bob: {path: weights, gpus: 1}
  cid: {path: weights, gpus: 0.5, vllm: {gpu-memory-utilization: 0.3, enable-sleep-mode: false}}
"""
TWO = Resources(gpus=2, node_gpus=2)


def test_turns_keep_to_the_gpus_left_to_this_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    plan = make_plan(parse_config(CONFIG), ["ada", "bob"], TWO)
    assert plan.groups == (("ada",), ("bob",))
    devices = {name: hosts[0].environment["CUDA_VISIBLE_DEVICES"] for name, hosts in plan.hosts.items()}
    assert devices == {"ada": "2,5", "bob": "2"}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    plan = make_plan(parse_config(CONFIG), ["ada", "bob"], TWO)
    assert plan.hosts["ada"][0].environment["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_the_one_awake_leaves_room_for_those_asleep():
    plan = make_plan(parse_config(CONFIG), ["ada", "bob"], TWO)
    for name in ("ada", "bob"):
        host = plan.hosts[name][0]
        assert host.placement.actor_gpus == 0.0
        assert host.settings.vllm["enable_sleep_mode"] is True
        assert host.settings.vllm["gpu_memory_utilization"] == pytest.approx(0.92 - SHARE_OF_A_SLEEPER)


def test_what_the_user_says_stays():
    plan = make_plan(parse_config(CONFIG), ["ada", "cid"], TWO)
    settings = plan.hosts["cid"][0].settings.vllm
    assert settings == {"gpu_memory_utilization": 0.3, "enable_sleep_mode": False}


def test_models_that_fit_together_keep_their_settings():
    plan = make_plan(parse_config(CONFIG), ["bob", "cid"], TWO)
    assert plan.groups == (("bob", "cid"),)
    assert "CUDA_VISIBLE_DEVICES" not in plan.hosts["bob"][0].environment
    assert plan.hosts["bob"][0].settings.vllm == {}
    assert plan.hosts["cid"][0].starts_alone


def test_free_memory_is_some():
    assert 2**20 < free_memory_bytes() < 2**50
