"""What the 2D network gives for images of a size: the shapes within, and the branches that it takes."""

import copy

import torch
from torch import fx, nn

__all__ = ['Probe', 'devices', 'images', 'record_shapes', 'shapes']

SHAPES = ('shape', 'ndim')
KEPT = (int, float, str, torch.Size, torch.dtype, torch.device)
SHAPE_METHODS = ('dim', 'ndimension', 'numel', 'size')


class Probe:
    """Runs a graph that is still being traced, as far as it is.

    Args:
        model (nn.Module): The root of the graph; it is not changed.
        image_size (int or tuple): As of :func:`mmext.inflate`.
    """

    def __init__(self, model, image_size):
        self.image_size = image_size
        self._model = copy.deepcopy(model)
        self._model.eval()
        self._values = {}

    def of_shapes(self, node):
        """Return the value of a node, None if it depends on more than shapes.

        Args:
            node (fx.Node): A node whose value is asked for while tracing, such as a condition.

        Returns:
            object: The value.
        """
        self._run(node.graph)
        pending = [node]
        while pending:
            source = pending.pop()
            if isinstance(self._values[source], torch.Tensor):
                return None
            of_shape = source.op == 'call_method' and source.target in SHAPE_METHODS
            if not of_shape and not (source.target is getattr and source.args[1] in SHAPES):
                pending.extend(source.all_input_nodes)
        return self._values[node]

    def _run(self, graph):
        interpreter = fx.Interpreter(self._model, garbage_collect_values=False, graph=graph)
        interpreter.env = self._values
        with torch.no_grad(), torch.random.fork_rng(devices(self._model)):
            for node in graph.nodes:
                if node.op == 'placeholder':
                    self._values.setdefault(node, images(self._model, self.image_size, graph))
                elif node not in self._values:
                    self._values[node] = interpreter.run_node(node)


class _Shapes(fx.Interpreter):
    def run_node(self, n):
        result = super().run_node(n)
        self.shapes[n.name] = shapes(result)
        self.values[n.name] = _without_storage(result)
        return result


def _without_storage(value):
    """Return a value with tensors that have shape and dtype only."""
    if isinstance(value, torch.Tensor):
        return torch.empty(value.shape, dtype=value.dtype, device='meta')
    if type(value) in (tuple, list):
        return type(value)(_without_storage(item) for item in value)
    return value if isinstance(value, KEPT) else None


def shapes(value):
    """Return the shape of a tensor, a list of those of several, None of anything else."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        return [shapes(item) for item in value]
    return None


def record_shapes(network, image_size, model):
    """Run a traced network on two images and put what all nodes give into their ``meta``.

    ``meta['frame_shape']`` is the shape of a tensor, a list of those of several, or None; ``meta['frame_value']`` is
    what a node gave, where tensors have shape and dtype only.

    Args:
        network (fx.GraphModule): The 2D network; it is not changed otherwise.
        image_size (int or tuple): As of :func:`mmext.inflate`.
        model (nn.Module): What was traced, whose modules are still of their types.

    Raises:
        ValueError: If the network does not run on such images.
    """
    example = images(model, image_size, network.graph)
    interpreter = _Shapes(copy.deepcopy(network).eval())
    interpreter.shapes, interpreter.values = {}, {}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices(network)):
            interpreter.run(example)
    except Exception as error:
        reason = str(error).strip().partition('\n')[0]
        _, channels, height, width = example.shape
        raise ValueError(
            f'the 2D network does not run on images of {channels} channels and {height} x {width} pixels: {reason}; '
            'give the image_size that it takes, in pixels, or as (channels, height, width)'
        ) from error
    for node in network.graph.nodes:
        node.meta['frame_shape'] = interpreter.shapes.get(node.name)
        node.meta['frame_value'] = interpreter.values.get(node.name)


def images(model, image_size, graph):
    """Return two images, as a batch of one would look like an axis of one element.

    Args:
        model (nn.Module): The network, for channels, dtype and device.
        image_size (int or tuple): As of :func:`mmext.inflate`.
        graph (fx.Graph): The graph, which may know the first convolution.

    Returns:
        Tensor: [2, C, H, W], zeros.

    Raises:
        ValueError: If ``image_size`` is not as it should be.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) not in (2, 3) or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in size):
        raise ValueError(
            f'image_size={image_size!r} must be a number of pixels, (height, width) or (channels, height, width)'
        )
    if len(size) == 2:
        size = (_channels(model, graph), *size)
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.zeros(2, *size, device=like.device, dtype=like.dtype)


def _channels(model, graph):
    called = []
    for node in graph.nodes:
        if node.op == 'call_module':
            called.append(model.get_submodule(node.target))
        elif node.op == 'get_attr':  # a convolution whose forward is traced
            called.append(model.get_submodule(node.target.rpartition('.')[0]))
    for module in [part for parent in [*called, model] for part in parent.modules()]:
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return 3


def devices(model):
    """Return the GPUs that a model is on, whose random state is to be kept."""
    return {p.device for p in model.parameters() if p.device.type == 'cuda'}
