"""Run by the real Inspect AI, in a venv of its own: three small runs with its mock model, which needs no
network because every answer says how many tokens it took.
"""
# mypy: ignore-errors

from inspect_ai import Task, task
from inspect_ai import eval as run
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate


@task
def uplift() -> Task:
    return Task(
        dataset=[Sample(input=f"question {i}", target="yes", id=f"q{i}") for i in range(4)],
        solver=generate(),
        scorer=includes(),
        metadata={"aslgate": {"model": "example-lm@1"}},
    )


def output(text):
    made = ModelOutput.from_content("mockllm/model", text)
    made.usage = ModelUsage(input_tokens=3, output_tokens=1, total_tokens=4)
    return made


for folder, form, more in (
    ("whole", "eval", {}),
    ("json", "json", {}),
    ("limited", "eval", {"limit": 2}),
):
    model = get_model(
        "mockllm/model",
        custom_outputs=[output(t) for t in ("yes", "no", "yes", "no")],
        memoize=False,
    )
    run(
        uplift(),
        model=model,
        log_dir=folder,
        log_format=form,
        display="none",
        max_connections=1,
        **more,
    )
