"""Whoever keeps the checkpoints of a service that is killed again and again sees one log."""

import random
import threading
import time
from itertools import pairwise

from app.integrations.tiled_log import NoAnswer, TiledLog
from app.operations.watch import Kept, watch
from tests.faults.conftest import Figures
from tests.faults.service import Service

KILLS = 4


def test_a_killed_signer_never_contradicts_itself(service: Service, figures: Figures) -> None:
    """Each checkpoint extends the one before, and what was acknowledged is under the last one."""
    stop = threading.Event()
    kept: list[Kept] = []
    acknowledged = [0]
    seed = random.randrange(2**32)
    chance = random.Random(seed)

    def look() -> None:
        with TiledLog(f"http://127.0.0.1:{service.port}", within=5) as log:
            while not stop.wait(0.02):
                try:
                    seen = watch(log, kept[-1] if kept else None)
                except NoAnswer:
                    continue
                if not kept or seen.checkpoint.size > kept[-1].checkpoint.size:
                    kept.append(seen)

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                status, said = service.register(f"m{seed}@{number}")
            except (OSError, ValueError):
                continue
            if status == 201:
                acknowledged[0] = max(acknowledged[0], said["ledger"]["index"])

    threads = [threading.Thread(target=look), threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(KILLS):
            # So that it dies in any part of a turn: the turns are 0.8 s apart.
            time.sleep(0.8 + chance.random())
            service.kill()
            service.start()
        time.sleep(2)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)

    sizes = [one.checkpoint.size for one in kept]
    assert all(old < new for old, new in pairwise(sizes))
    assert len({one.keys for one in kept}) == 1
    assert len(sizes) > KILLS
    with TiledLog(f"http://127.0.0.1:{service.port}", within=5) as log:
        begun = time.monotonic()
        while watch(log, kept[-1]).checkpoint.size <= acknowledged[0]:
            assert time.monotonic() < begun + 5, "what was acknowledged is under no checkpoint"
            time.sleep(0.05)
    figures(f"seed {seed}, {KILLS} kills, {len(sizes)} checkpoints up to size {sizes[-1]}, no fork")
