"""What tells one policy's frozen weights from another's: a learner's state belongs to one of them."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

_BYTES = 16


def digest_of_frozen(model: nn.Module, learned: Mapping[str, Tensor]) -> str:
    """Hex digest of all weights and buffers of a network but for those that learn.

    Args:
        model: the network; a backbone that is no part of it is not looked at.
        learned: the parameters that learn, as they lie in it.
    """
    digest = hashlib.blake2b(digest_size=_BYTES)
    own = {value.data_ptr() for value in learned.values()}
    for name, value in sorted(model.state_dict().items()):
        if value.data_ptr() not in own:
            digest.update(name.encode())
            digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())  # bfloat16, too
    return digest.hexdigest()
