"""Whole runs in this process: what they learn, average, validate and refuse."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import torch
from lines import Line, lattice_model, quick
from on_pairs import module, plain_objective, train_pairs
from safetensors.torch import load_file

from cellgraph.folder import RunFolder
from cellgraph.retrieval import (
    Batch,
    DialogueLoader,
    EmbeddedPairs,
    ranks,
)
from cellgraph.training import (
    EMA,
    NonFiniteError,
    RunSettings,
    build_trainer,
    fit,
    read_checkpoint,
)


def reciprocal(prediction, answer):
    return 1 / ranks(prediction, answer, torch.arange(len(answer)))


def test_training_learns_a_linear_map(pairs):
    before = reciprocal(Line()(pairs[1].question).embedding.detach(), pairs[1].answer).mean()
    settings = quick(max_steps=300, lr=0.05, val_every=100)
    result = train_pairs(Line(), plain_objective(), *pairs, settings=settings, progress=False)
    assert result.metrics["val/mrr"] == 1.0 > before + 0.3
    assert result.metrics["val/cosine"] > 0.98
    assert result.steps == 300
    assert [row["step"] for row in result.history] == [100, 200, 300]
    assert result.seconds > 0


def test_the_lattice_trains_through_the_same_call(pairs):
    model = lattice_model(fire_rate=0.8)
    model.fit_adapters(pairs[0].question, pairs[0].answer)
    settings = quick(max_steps=60, lr=0.01, ema=0.99, val_every=20)
    result = train_pairs(model, plain_objective(internal=0.1), *pairs, settings=settings, progress=False)
    losses = [row["val/loss"] for row in result.history]
    assert losses[-1] < losses[0]
    assert result.model is model
    assert not model.training


def test_the_result_is_the_best_validation_s_weights(pairs):
    # A rate at which a straight line gets worse and better by turns.
    result = train_pairs(
        Line(), plain_objective(), *pairs, settings=quick(max_steps=40, lr=0.6, val_every=2, ema=0.5), progress=False
    )
    scores = {row["step"]: row["val/mrr"] for row in result.history}
    assert result.best_step == max(scores, key=scores.get)
    assert len(set(scores.values())) > 3
    prediction = result.model(pairs[1].question).embedding.detach()
    assert float(reciprocal(prediction, pairs[1].answer).mean()) == scores[result.best_step]


def test_validation_metrics_are_those_of_the_averaged_model(pairs, tmp_path):
    objective = plain_objective()
    result = train_pairs(
        Line(), objective, *pairs, settings=quick(ema=0.9, val_every=12), folder=tmp_path, progress=False
    )
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    averages = checkpoint["callbacks"]["EMA"]["average"]
    prediction = torch.nn.functional.linear(pairs[1].question, averages["map.weight"], averages["map.bias"])
    cosine = torch.cosine_similarity(prediction, pairs[1].answer).mean()
    assert result.metrics["val/cosine"] == pytest.approx(float(cosine), rel=1e-5)
    assert not torch.equal(checkpoint["state_dict"]["model.map.weight"], averages["map.weight"])
    assert torch.equal(result.model.map.weight, averages["map.weight"])


def test_ema_is_the_recursion_over_updates_not_batches(pairs, tmp_path):
    seen = []

    class Spy(EMA):
        def on_train_batch_end(self, trainer, pl_module, *args):
            super().on_train_batch_end(trainer, pl_module, *args)
            seen.append((trainer.global_step, pl_module.model.map.weight.detach().double().clone()))

    torch.manual_seed(0)
    model = Line()
    expected = model.map.weight.detach().double().clone()
    spy = Spy(0.8)
    told = {"max_steps": 9, "accumulate": 2, "ema": 0.0, "accelerator": "cpu", "batch_size": 8}
    learner = module(model, plain_objective(surface=1.0, dialogue=0.0), pairs[0], **told)
    trainer = build_trainer(RunFolder(tmp_path), learner.settings, keep=False, progress=False)
    trainer.callbacks.insert(0, spy)
    fit(learner, trainer)
    assert len(seen) == 18
    updates = dict(reversed(seen))
    for update in range(1, 10):
        decay = min(0.8, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * updates[update]
    assert torch.allclose(spy.average["map.weight"].double(), expected, atol=1e-6)


def test_updates_are_adamw_on_the_mean_of_accumulated_batches(pairs):
    """The whole update, against PyTorch's optimiser driven by hand."""
    torch.manual_seed(0)
    model, twin = Line(), Line()
    twin.load_state_dict(model.state_dict())
    options = {"lr": 0.01, "weight_decay": 0.3, "warmup_steps": 3, "betas": (0.8, 0.9), "clip": 0.5, "accumulate": 2}
    settings = quick(max_steps=6, **options)
    result = train_pairs(model, plain_objective(dialogue=0.0), pairs[0], settings=settings, progress=False)
    groups = [{"params": [twin.map.weight], "weight_decay": 0.3}, {"params": [twin.map.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.9))
    stream = iter(DialogueLoader(pairs[0], 8, seed=0, drop_last=True, num_batches=12))
    for step in range(6):
        factor = (step + 1) / 3 if step < 3 else (1 + np.cos(np.pi * (step - 3) / 3)) / 2
        for _ in range(2):
            batch = next(stream)
            prediction, answer = twin(batch.question[:, 0]).embedding, batch.answer[:, 0]
            loss = 1 - torch.cosine_similarity(prediction, answer).mean() + (prediction - answer).square().mean()
            (loss / 2).backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * factor
        optimizer.step()
        optimizer.zero_grad()
    assert result.best_step == 0
    assert torch.allclose(model.map.weight, twin.map.weight, atol=1e-6)
    assert torch.allclose(model.map.bias, twin.map.bias, atol=1e-6)


def test_early_stopping_and_staying_stopped(pairs, tmp_path):
    settings = quick(max_steps=400, lr=0.05, val_every=5, patience=2)
    result = train_pairs(Line(), plain_objective(), *pairs, settings=settings, folder=tmp_path, progress=False)
    scores = [row["val/mrr"] for row in result.history]
    assert result.steps < 400
    assert scores.index(max(scores)) == len(scores) - 3
    again = train_pairs(
        Line(), plain_objective(), *pairs, settings=settings, folder=tmp_path, progress=False, resume=True
    )
    assert (again.steps, again.best_step, again.history) == (result.steps, result.best_step, result.history)


def test_memory_is_handed_on_and_the_gradient_ends_with_the_batch(pairs):
    model = lattice_model(memory_channels=2)
    with torch.no_grad():
        model.cell.out_weight.normal_(std=0.3)
    dialogues = EmbeddedPairs(pairs[0].question[:4], pairs[0].answer[:4], dialogue=["a"] * 4)
    learner = module(model, plain_objective(surface=1.0, dialogue=0.0), dialogues, seed=1)
    first, second = DialogueLoader(dialogues, 1, window=2)
    model.eval()
    learner.training_step(first, 0).backward()
    memory = learner.lesson.memory
    assert not memory.requires_grad
    by_hand = model(dialogues.question[1:2], model(dialogues.question[:1]).memory)
    assert torch.equal(memory, by_hand.memory.detach())
    model.zero_grad()
    loss = learner.training_step(second, 1)
    outputs, memory = [], memory
    for turn in (2, 3):
        outputs.append(model(dialogues.question[turn : turn + 1], memory))
        memory = outputs[-1].memory
    surface = torch.cat([output.surface for output in outputs])
    target = model.target_surface(dialogues.answer[2:])
    expected = 1 - torch.cosine_similarity(surface, target).mean() + (surface - target).square().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert model.cell.out_weight.grad.abs().sum() > 0
    restarted = learner.training_step(Batch.gather(dialogues, second.index), 2)
    assert restarted.item() != pytest.approx(loss.item(), rel=1e-5)


def test_a_long_dialogue_trains_without_holding_on_to_its_past(pairs):
    dialogue = EmbeddedPairs(pairs[0].question, pairs[0].answer, dialogue=["a"] * 40)
    settings = quick(max_steps=90, window=1, batch_size=1)
    objective = plain_objective(surface=1.0, dialogue=0.0)
    result = train_pairs(lattice_model(memory_channels=2), objective, dialogue, settings=settings, progress=False)
    assert result.steps == 90


@pytest.mark.parametrize(("options", "term"), [({}, "surface"), ({"surface": 0.0}, "dialogue")])
def test_a_loss_that_is_not_finite_names_update_and_term_and_keeps_the_batch(pairs, tmp_path, options, term):
    settings = quick(accumulate=2)
    with pytest.raises(NonFiniteError) as caught:
        train_pairs(
            Line(poison_at=6), plain_objective(**options), *pairs, settings=settings, folder=tmp_path, progress=False
        )
    path = tmp_path / "nonfinite_update_3.safetensors"
    assert str(caught.value) == f"update 3: the term '{term}' is nan; the batch is saved in {path}"
    stream = DialogueLoader(pairs[0], 8, seed=0, drop_last=True, num_batches=24)
    sixth = [batch for batch, _ in zip(stream, range(6), strict=False)][-1]
    saved = load_file(path)
    assert torch.equal(saved["index"], sixth.index)
    assert torch.equal(saved["question"], sixth.question)


def test_a_gradient_that_is_not_finite_stops_too(pairs, tmp_path):
    model = Line()
    model.map.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(NonFiniteError, match=r"update 1: the term 'gradient' is (nan|inf); the batch is saved in"):
        train_pairs(model, plain_objective(), *pairs, settings=quick(), folder=tmp_path, progress=False)


def test_float16_on_a_cpu_is_said_to_be_bfloat16(pairs):
    with pytest.warns(UserWarning, match="'16-mixed' runs as 'bf16-mixed'"):
        half = train_pairs(
            lattice_model(), plain_objective(), *pairs, settings=quick(precision="16-mixed"), progress=False
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        full = train_pairs(lattice_model(), plain_objective(), *pairs, settings=quick(), progress=False)
    assert half.metrics["val/loss"] == pytest.approx(full.metrics["val/loss"], rel=0.5)
    assert next(half.model.parameters()).dtype == torch.float32


def test_a_run_leaves_the_process_s_randomness_alone(pairs):
    model = Line()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global state is what is tested
    torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(())  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    train_pairs(model, plain_objective(), *pairs, settings=quick(max_steps=2), progress=False)
    assert (random.random(), np.random.rand(), torch.rand(())) == expected  # noqa: NPY002


def test_two_runs_are_equal_and_seeds_matter(pairs):
    def weights(seed):
        torch.manual_seed(0)
        settings = quick(seed=seed, max_steps=4)
        return train_pairs(
            lattice_model(fire_rate=0.5), plain_objective(), *pairs, settings=settings, progress=False
        ).model.state_dict()

    one, same, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["cell.transport"], other["cell.transport"])


def test_compile_is_asked_of_the_model(pairs):
    class Compiled(Line):
        compiled = 0

        def compile_step(self):
            self.compiled += 1

    assert (
        train_pairs(Compiled(), plain_objective(), *pairs, settings=quick(compile=True), progress=False).model.compiled
        == 1
    )
    assert train_pairs(Compiled(), plain_objective(), *pairs, settings=quick(), progress=False).model.compiled == 0
    assert train_pairs(Line(), plain_objective(), *pairs, settings=quick(compile=True), progress=False).steps == 12


def test_the_generator_goes_on_where_the_module_is_moved_after_a_checkpoint_is_read(pairs, monkeypatch):
    first, again = (module(Line(), plain_objective(), *pairs) for _ in range(2))
    torch.rand(5, generator=first.generator)
    checkpoint = {
        "state_dict": first.state_dict(),
        "update_state": {
            **first.lesson.state_dict(),
            "generator": first.generator.get_state(),
            "generator_device": "cpu",
            "meter": first.train_meter.state_dict(),
        },
    }
    with monkeypatch.context() as before:
        # As it is on a GPU: Lightning reads the checkpoint first.
        before.setattr(type(again), "device", torch.device("meta"))
        again.on_load_checkpoint(checkpoint)
    assert torch.equal(torch.rand(5, generator=again.generator), torch.rand(5, generator=first.generator))


def test_patience_needs_something_that_should_grow(tmp_path):
    with pytest.raises(ValueError, match="patience=2 needs a validation metric"):
        build_trainer(RunFolder(tmp_path), RunSettings(max_steps=5, patience=2))


def test_patience_without_pairs_to_validate_on_is_refused(pairs):
    with pytest.raises(ValueError, match="patience=2 needs a validation metric"):
        train_pairs(Line(), plain_objective(), pairs[0], settings=quick(patience=2), progress=False)


def test_a_model_in_evaluation_mode_is_trained_in_training_mode(pairs):
    model = Line().eval()
    train_pairs(model, plain_objective(), *pairs, settings=quick(max_steps=3), progress=False)
    assert model.calls == 3
    assert not model.training


def test_several_processes_need_one_folder(pairs, monkeypatch):
    monkeypatch.setattr("cellgraph.training.run.processes.join", lambda: None)
    monkeypatch.setattr("cellgraph.training.run.processes.world", lambda: 2)
    with pytest.raises(ValueError, match="the 2 processes that train together need one folder for it, got none"):
        train_pairs(Line(), plain_objective(), *pairs, settings=quick(), progress=False)
