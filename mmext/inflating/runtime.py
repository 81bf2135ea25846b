"""What the graph of an inflated network calls besides PyTorch: one small function for each step that concerns time."""

import torch

__all__ = [
    'as_rank',
    'frame_shape',
    'from_frames',
    'into_frames',
    'join_frames',
    'picture_size',
    'repeat_in_time',
    'reshape_frames',
    'same_branch',
]


def frame_shape(x, time):
    """Return the shape of one frame's tensor, that is without time."""
    shape = list(x.shape)
    del shape[time]
    return torch.Size(shape)


def as_rank(x, rank):
    """Return the number of axes that the 2D network would see."""
    return rank


def picture_size(size):
    """Return the output size of an adaptive pool over all frames, for that of a frame."""
    return (1, size, size) if isinstance(size, int) else (1, *size)


def into_frames(x, time):
    """Turn clips into frames: [N, ..., T, ...] -> [N * T, ...]."""
    frames = x.movedim(time, 1).flatten(0, 1)
    if frames.ndim == 4 and frames.is_contiguous(memory_format=torch.channels_last):
        return frames
    return frames.contiguous()  # the frames of a single clip are a view, which a module's own x.view(...) may not take


def from_frames(frames, times, length):
    """Turn frames back into clips: [N * T, ...] -> [N, ..., T, ...].

    Args:
        frames (Tensor or tuple): What was made of frames.
        times (int or tuple): Place of the time axis, None for what is no tensor of frames.
        length (int): Frames of a clip.

    Returns:
        Tensor or tuple: The clips, nested as the input.
    """
    if isinstance(frames, (tuple, list)):
        return tuple(from_frames(value, time, length) for value, time in zip(frames, times))
    if times is None:
        return frames
    return frames.unflatten(0, (frames.shape[0] // length, length)).movedim(1, times)


def reshape_frames(x, time, shape):
    """Give the tensor of every frame a new shape that keeps the batch: [N, ..., T, ...] -> [N, T, *shape[1:]]."""
    if len(shape) == 1 and not isinstance(shape[0], int):
        shape = shape[0]
    n, length = x.shape[0], x.shape[time]
    if shape[0] not in (-1, n):
        raise ValueError(f'shape {tuple(shape)} does not keep the batch of {n}, which an inflated network has to')
    return x.movedim(time, 1).reshape(n, length, *shape[1:])


def join_frames(x, time, frames):
    """Put the features of all frames into one vector: [N, ..., T, ..., C] -> [N, ..., T * C]."""
    if x.shape[time] != frames:
        raise ValueError(
            f'{x.shape[time]} frames reach a linear layer that was inflated for {frames}; give clips of the length '
            'that it was made for, or inflate with another number of frames'
        )
    return x.movedim(time, -2).flatten(-2)


def repeat_in_time(x, time, length):
    """Repeat what is the same for all frames: [N, ...] -> [N, ..., T, ...]."""
    sizes = [-1] * (x.ndim + 1)
    sizes[time] = length
    return x.unsqueeze(time).expand(sizes)


def same_branch(condition, value):
    """Raise if a condition on shapes is not what it was when the network was inflated."""
    if bool(condition) != value:
        raise ValueError(
            'this network takes another branch for clips of this size than for the image_size it was inflated with; '
            'inflate it with image_size set to the size of these frames'
        )
