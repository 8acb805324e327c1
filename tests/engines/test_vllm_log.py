"""Old log files go, but for those that a living process still needs."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from local_fusion.engines import vllm_log


def aged(folder, name):
    file = folder / name
    file.write_text("{}")
    os.utime(file, (time.time() - 30 * 86_400,) * 2)
    return file


def test_the_settings_of_a_living_process_stay_however_old_they_are(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lives = [aged(tmp_path, f"vllm-{os.getppid()}.{ending}") for ending in ("json", "log")]
    first = aged(tmp_path, "vllm-1.json")
    dead = [aged(tmp_path, f"vllm-{gone.pid}.{ending}") for ending in ("json", "log")]
    strange = [aged(tmp_path, name) for name in ("vllm-old.log", "vllm-999999999999.json")]
    recent = tmp_path / f"vllm-{gone.pid}.log.1"
    recent.write_text("")
    vllm_log.log_to_file(tmp_path)
    assert all(file.exists() for file in (*lives, first, recent))
    assert not any(file.exists() for file in (*dead, *strange))
    assert (tmp_path / f"vllm-{os.getpid()}.json").is_file()
