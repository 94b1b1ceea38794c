"""A quantizer attached to an optimizer does in a plain loop what the calls written out do, bit for bit."""

import copy
import pickle
import weakref

import pytest
import torch
from accelerate import Accelerator
from helpers.quantizer_cases import CASES, DIM, Case, vectors
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from stage1_tokenizer.quantizers import EMA, RQ, Quantizer, SimVQ


def trained(case: Case, attached: bool) -> dict[str, torch.Tensor]:
    """The state of encoder and quantizer after five steps."""
    torch.manual_seed(0)
    encoder, quantizer = torch.nn.Linear(DIM, DIM), case.make()
    optimizer = torch.optim.SGD([*encoder.parameters(), *quantizer.parameters()], lr=0.05)
    if attached:
        quantizer.attach(optimizer)
    for step in range(5):
        latents = encoder(vectors(seed=step))
        if not attached and step == 0:
            quantizer.init_from(latents.detach())
        torch.manual_seed(step)
        out = quantizer(latents)
        (out.loss + out.latents.square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
        if not attached:
            quantizer.accumulate(out.inputs, out.input_codes)
            quantizer.after_step()
    return {**quantizer.state_dict(), **encoder.state_dict()}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_attached_equals_the_calls_written_out(case: Case) -> None:
    ours, theirs = trained(case, True), trained(case, False)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def loop(quantizer: Quantizer, resumed: bool = False) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    quantizer.attach(optimizer, resumed=resumed)
    return optimizer


def test_evaluation_changes_nothing() -> None:
    quantizer = EMA(codebook_size=8, code_dim=DIM)
    optimizer, before = loop(quantizer), copy.deepcopy(quantizer.state_dict())
    quantizer.eval()(vectors())
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_a_resumed_codebook_is_not_initialised_again() -> None:
    quantizer = SimVQ(codebook_size=8, code_dim=DIM)
    before = quantizer.codebook.detach().clone()
    loop(quantizer, resumed=True)
    quantizer(vectors())
    assert torch.equal(quantizer.codebook, before)


def test_batches_before_a_step_count_together() -> None:
    """Gradient accumulation: two halves of a batch are one batch."""
    states = []
    for parts in (1, 2):
        torch.manual_seed(0)
        quantizer = EMA(codebook_size=8, code_dim=DIM, reset="none")
        optimizer = loop(quantizer, resumed=True)
        for some in vectors().chunk(parts, dim=1):
            quantizer(some)
        optimizer.step()
        states.append(quantizer.codebook)
    torch.testing.assert_close(*states)


def test_a_quantizer_that_accumulates_nothing_keeps_no_batch() -> None:
    """Where the optimizer steps late or never, batches would fill the memory."""
    for quantizer, kept in (
        (SimVQ(codebook_size=8, code_dim=DIM), False),
        (EMA(codebook_size=8, code_dim=DIM), True),
    ):
        loop(quantizer)
        inputs = weakref.ref(quantizer(vectors()).inputs)
        assert (inputs() is not None) == kept


def test_a_copy_does_not_feed_the_original() -> None:
    quantizer = EMA(codebook_size=8, code_dim=DIM)
    optimizer, before = loop(quantizer), copy.deepcopy(quantizer.state_dict())
    other = copy.deepcopy(quantizer)
    its_optimizer = loop(other)
    for _ in range(3):
        other(vectors() + 50)
        its_optimizer.step()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    assert other.codebook.mean() > 10


def test_weights_that_are_loaded_are_not_initialised_again() -> None:
    """Those of the quantizer: weights of an encoder alone do not count."""
    source, quantizer = (SimVQ(codebook_size=8, code_dim=DIM) for _ in range(2))
    model = torch.nn.ModuleDict({"encoder": torch.nn.Linear(DIM, DIM), "quantizer": quantizer})
    loop(quantizer)
    encoder = torch.nn.Linear(DIM, DIM).state_dict()
    model.load_state_dict({f"encoder.{k}": v for k, v in encoder.items()}, strict=False)
    before = quantizer.codebook.detach().clone()
    quantizer(vectors())
    assert not torch.equal(quantizer.codebook, before)
    attached, loaded = (SimVQ(codebook_size=8, code_dim=DIM) for _ in range(2))
    loop(attached)
    attached.load_state_dict(source.state_dict())
    loaded.load_state_dict(source.state_dict())
    loop(loaded)
    for other in (attached, loaded):
        other(vectors())
        assert torch.equal(other.codebook, source.codebook)


def test_an_optimizer_of_accelerate_is_the_one_inside() -> None:
    quantizer, parameter = EMA(codebook_size=8, code_dim=DIM), torch.nn.Parameter(torch.zeros(1))
    optimizer = Accelerator(cpu=True).prepare(torch.optim.SGD([parameter], lr=0.1))
    before = quantizer.codebook.clone()
    quantizer.attach(optimizer)
    quantizer(vectors())
    optimizer.step()
    assert not torch.equal(quantizer.codebook, before)


def test_the_copies_of_data_parallel_are_refused() -> None:
    quantizer = EMA(codebook_size=8, code_dim=DIM)
    loop(quantizer)
    replica = quantizer._replicate_for_data_parallel()
    with pytest.raises(ValueError, match="can't learn: use DistributedDataParallel"):
        replica(vectors())
    replica.eval()(vectors())


def test_an_attached_quantizer_can_be_pickled() -> None:
    quantizer = SimVQ(codebook_size=8, code_dim=DIM)
    loop(quantizer)
    other = pickle.loads(pickle.dumps(quantizer))
    assert torch.equal(other(vectors()).codes, quantizer.eval()(vectors()).codes)
    assert quantizer.attachment and not other.attachment


def test_a_forward_without_gradient_does_not_use_up_the_first_batch() -> None:
    quantizer = SimVQ(codebook_size=8, code_dim=DIM)
    loop(quantizer)
    with torch.no_grad():
        quantizer(torch.zeros(1, 5, DIM))
    quantizer(vectors() + 50)
    assert 40 < quantizer.codebook.mean() < 60


def test_a_quantizer_that_accumulates_learns_without_a_gradient() -> None:
    """Of frozen features, say."""
    quantizer = EMA(codebook_size=8, code_dim=DIM)
    optimizer = loop(quantizer)
    with torch.no_grad():
        quantizer(vectors() + 50)
    optimizer.step()
    assert quantizer.counter.steps == 1 and quantizer.codebook.mean() > 40


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("kind", [EMA, SimVQ])
def test_a_batch_counts_once_where_checkpointing_runs_it_twice(
    kind: type[Quantizer], reentrant: bool
) -> None:
    def state(checkpointed: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        quantizer = kind(codebook_size=8, code_dim=DIM)
        optimizer, latents = loop(quantizer), vectors().requires_grad_()

        def energy(x: Tensor) -> Tensor:
            return quantizer(x).latents.square().sum()

        if checkpointed:
            checkpoint(energy, latents, use_reentrant=reentrant).backward()
        else:
            energy(latents).backward()
        optimizer.step()
        return quantizer.state_dict()

    expected = state(checkpointed=False)
    assert all(torch.equal(value, expected[name]) for name, value in state(True).items())


@pytest.mark.parametrize("kind", [EMA, SimVQ])
def test_a_batch_without_finite_vectors_is_passed_over(kind: type[Quantizer]) -> None:
    quantizer, other = (kind(codebook_size=8, code_dim=DIM) for _ in range(2))
    other.load_state_dict(quantizer.state_dict())
    optimizer = loop(quantizer)
    quantizer(vectors() * torch.nan)
    optimizer.step()
    quantizer(vectors())
    other.init_from(vectors())
    states = quantizer.state_dict(), other.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_further_optimizer_takes_the_place_of_the_earlier_one() -> None:
    quantizer = EMA(codebook_size=8, code_dim=DIM, start="data")
    first = loop(quantizer)
    quantizer(vectors())
    first.step()
    before = copy.deepcopy(quantizer.state_dict())
    second = loop(quantizer)
    quantizer(vectors() + 50)
    first.step()  # changes nothing any more, nor was the codebook initialised once more
    state = quantizer.state_dict()
    assert all(torch.equal(state[name], value) for name, value in before.items())
    second.step()
    assert not torch.equal(quantizer.codebook, before["table"])


@pytest.mark.parametrize("kind", [EMA, RQ])
def test_averages_begin_at_codes_that_are_loaded_and_go_on_where_resumed(
    kind: type[Quantizer],
) -> None:
    """The table of a saved tokenizer is an average over steps, its sums are not."""
    source = kind(codebook_size=8, code_dim=DIM, reset="none")
    optimizer = loop(source)
    source(vectors())
    optimizer.step()
    (key,) = (name for name in source.state_dict() if name.endswith("table"))
    saved = {name: value.clone() for name, value in source.state_dict().items()}
    averaged = saved | {key: saved[key] + 0.5}
    for resumed, expected in ((False, averaged[key]), (True, saved[key])):
        quantizer = kind(codebook_size=8, code_dim=DIM, reset="none", decay=0.9999)
        quantizer.load_state_dict(averaged)
        optimizer = loop(quantizer, resumed=resumed)
        quantizer(vectors())
        optimizer.step()
        assert (quantizer.state_dict()[key] - expected).abs().max() < 0.1
