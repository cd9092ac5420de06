"""Many streams at once, some of them dropped: the others say what each says alone."""

from __future__ import annotations

import time

from tests.fakes.http_clients import Job, ask_at_once
from tests.fakes.http_server import TOKEN, eventually, serving, tasks_of, threads
from tests.fakes.models import FakeDecoder
from tests.fakes.serving import FakeModels

STREAMS, DROPPED = 64, 16


def test_of_64_streams_16_are_dropped_and_48_are_exact(fake_models: FakeModels) -> None:
    decoder = fake_models.add("random", FakeDecoder(rows_per_step=8))
    decoder.before_decode = lambda _: time.sleep(0.001)
    bodies = [
        {"model": "random", "content": f"stream {index}", "sampling_params": {"max_tokens": 40}}
        for index in range(STREAMS)
    ]
    with serving(fake_models.config) as served:
        client = served.client()
        alone = [client.post("/inference/completion", json=body).json()["completion_message"] for body in bodies]
        engine = fake_models.engines["random"]
        assert eventually(lambda: engine.in_flight == 0)
        tasks, others = tasks_of(served), threads()

        # Every fourth is dropped, each after another number of events.
        leaving = {index: 1 + index // 4 for index in range(0, STREAMS, STREAMS // DROPPED)}
        heard = ask_at_once([Job(served.port, TOKEN, body, leaving.get(at)) for at, body in enumerate(bodies)])

        assert not [one.error for one in heard if one.error]
        stayed = [index for index in range(STREAMS) if index not in leaving]
        assert len(stayed) == STREAMS - DROPPED
        assert [heard[index].text for index in stayed] == [alone[index]["content"] for index in stayed]
        assert all(heard[index].is_whole for index in stayed)
        assert eventually(lambda: engine.in_flight == 0)
        assert eventually(lambda: tasks_of(served) <= tasks)
        assert threads() <= others
        done = len(decoder.decodes)
        client.post("/inference/completion", json=bodies[0])
        assert len(decoder.decodes) - done <= 40, "nothing but the last request is computed"
