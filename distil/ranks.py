"""Several processes on one step, as ``torchrun`` or ``accelerate launch`` start them: who works on what, who writes, who waits.

    torchrun --nproc-per-node 8 -m distil.steps 02_teacher --profile paper --task mnli

Every process runs the whole notebook. Fine-tuning splits its batches (transformers' Trainer), labelling its shards; the first
process, rank 0, alone writes what is shared.
"""

import os


def rank() -> int:
    """Number of this process; 0 for the first, and where there is but one."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def wait() -> None:
    """Until all processes have come this far."""
    if world_size() > 1:
        import torch
        from torch import distributed

        if not distributed.is_initialized():  # transformers' Trainer takes the group that it finds
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        distributed.barrier()
