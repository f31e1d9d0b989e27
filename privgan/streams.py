"""Random streams by name: one for every purpose and step of a seed, none of which meet.

A person gives one seed to many things: data, noise, initial weights, latents. Were each of them to
seed a generator with it, they would draw the same numbers, and noise would equal the data that it
is meant to hide. Here (seed, purpose, step) is hashed to the whole state of a Mersenne twister:
other seeds, purposes and steps have nothing in common, and a stream can be taken up anywhere.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from privgan import checks

# A torch.Generator's state on the CPU: 24 bytes about itself, then the twister's words in 8 bytes
# each. `manual_seed` would take 32 bits only, of which 100 000 seeds share some.
WORDS, BEFORE = 624, 24
ALONG = 2**16  # bytes that CUDA's driver takes along with the call


def stream(seed: int | None, purpose: str, step: int = 0) -> torch.Generator:
    """The CPU generator for one ``purpose`` ("noise", say) at one ``step`` of a ``seed``.

    The same arguments give the same numbers, on every machine. ``seed=None`` takes fresh entropy
    from the operating system. Raises TypeError for a seed that is no integer.
    """
    if seed is None:
        words = os.urandom(4 * WORDS)
    else:
        name = f"{checks.integer('seed', seed)} {purpose} {step}"
        words = hashlib.shake_256(name.encode()).digest(4 * WORDS)
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    twister = state.numpy()[BEFORE : BEFORE + 8 * WORDS].view(np.uint64)
    twister[:] = np.frombuffer(words, np.uint32)
    return generator.set_state(state)


def sent(drawn: torch.Tensor, device: torch.device) -> torch.Tensor:
    """What was drawn on the CPU, on ``device``; for a GPU to take when it gets there, unawaited.

    A small tensor travels with the call, a larger one from memory that the driver reads by itself.
    """
    if device.type == "cuda" and drawn.nbytes > ALONG:
        drawn = drawn.pin_memory()
    return drawn.to(device, non_blocking=True)


@contextmanager
def ambient(
    seed: int | None, purpose: str, step: int = 0, device: torch.device | None = None
) -> Iterator[None]:
    """Within it, torch's global generator is that `stream`; afterwards it is as it was.

    For code that takes no generator: the initialisation of layers, dropout. device: one whose
    global generator is set as well, if it is not the CPU's.
    """
    own = stream(seed, purpose, step)
    globally = [torch.default_generator]
    if device is not None and device.type == "cuda":
        globally.append(torch.cuda.default_generators[device.index or 0])
    before = [generator.get_state() for generator in globally]
    for generator in globally[1:]:
        generator.manual_seed(int(torch.randint(2**63 - 1, (1,), generator=own)))
    torch.default_generator.set_state(own.get_state())
    try:
        yield
    finally:
        for generator, state in zip(globally, before, strict=True):
            generator.set_state(state)
