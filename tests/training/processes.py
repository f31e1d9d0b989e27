"""Two processes of one thread each, which torchrun would have started, and what they find."""

import os
import socket
from contextlib import closing

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def together(function, *arguments, count=2):
    """``function(*arguments)`` in ``count`` processes over gloo; what each of them returned."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mp.get_context("spawn").Manager() as manager:
        found = manager.dict()
        mp.spawn(_one, (count, port, found, function, arguments), nprocs=count)
        return [found[rank] for rank in range(count)]


def _one(rank, count, port, found, function, arguments):
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=count)
    try:
        found[rank] = function(*arguments)
    finally:
        dist.destroy_process_group()
