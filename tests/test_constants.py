import torch

from last.constants import constant

CPU = torch.device("cpu")


def test_a_constant_is_made_once_for_its_values_and_type():
    assert constant((0, 2, 1), torch.long, CPU) is constant((0, 2, 1), torch.long, CPU)
    assert constant((0, 2, 1), torch.long, CPU).tolist() == [0, 2, 1]
    # Python takes 0 and 0.0 for the same key.
    assert constant((0.0, 2.0, 1.0), torch.float32, CPU).dtype is torch.float32


def test_what_evaluation_made_serves_training():
    with torch.inference_mode():
        order = constant((2, 0), torch.long, CPU)
    x = torch.ones(3, requires_grad=True)
    x.index_select(0, order).sum().backward()
    assert x.grad.tolist() == [1, 0, 1]
