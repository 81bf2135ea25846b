"""The last step of an inflation: every function of the new graph is run beside the one of the 2D graph."""

import copy

import torch
from torch import fx

from .layouts import Layout, layouts_in
from .probing import devices, images, shapes

__all__ = ['check', 'check_tracing', 'equal', 'random_images']

UNINITIALISED = ('empty_like',)
DIFFERENT = 'does not do on clips what it does on pictures'


def check_tracing(network, rewriter, image_size, model):
    """Raise if the traced network does not compute what the network itself does.

    Tracing runs the network's Python code once. What that code does to tensors without PyTorch's functions (such as
    ``y = x; y += 1``, which changes ``x`` as well), or by other conditions than the traced ones, is lost; and a layer
    that is replaced by its 3D form loses its hooks.

    Args:
        network (fx.GraphModule): The traced network.
        rewriter (Rewriter): What has rewritten it.
        image_size (int or tuple): As of :func:`mmext.inflate`.
        model (nn.Module): What was traced.

    Raises:
        ValueError: If the results differ.
    """
    example = random_images(network, image_size, model)
    if example.is_meta:
        return
    bare = copy.deepcopy(network)
    for name in rewriter.inflated:
        layer = bare.get_submodule(name)
        layer._forward_hooks.clear()
        layer._forward_pre_hooks.clear()

    def run(module):
        with torch.no_grad(), torch.random.fork_rng(devices(network)):
            torch.manual_seed(0)
            return copy.deepcopy(module)(example.clone())

    expected, found = run(model), run(bare)
    if not equal(found, expected) and equal(run(model), expected):  # the same each time, but not this
        raise ValueError(
            f'{type(model).__name__} gives something else when it is traced by torch.fx, which sees neither hooks nor '
            'tensors changed by y = x; y += 1; remove the hooks and write y = x + 1, or put what does this into a '
            "module of its own and give that one the rule 'frames'"
        )


def random_images(network, image_size, model):
    """Return two random images, the same ones each time; on the meta device they have no values."""
    zeros = images(model, image_size, network.graph)
    return zeros if zeros.is_meta else torch.rand(zeros.shape, generator=torch.Generator().manual_seed(0)).to(zeros)


def check(network, rewriter, image_size, model):
    """Find functions that do not do on clips what they do on pictures, and add them to the problems of a rewriter.

    Each function gets clips of three frames that are made of what the 2D network gives it for two random images. Where
    it works on every frame, frames differ, and each has to become what the 2D function makes of it; where it works over
    time, all frames are the same. What is written in place has to reach the tensors that it reaches in 2D.

    Args:
        network (fx.GraphModule): The 2D network, with what :func:`~mmext.inflating.probing.record_shapes` puts there.
        rewriter (Rewriter): What has rewritten it; it gets the problems that are found.
        image_size (int or tuple): As of :func:`mmext.inflate`.
        model (nn.Module): What was traced.
    """
    example = random_images(network, image_size, model)
    if not example.is_meta:
        with torch.no_grad(), torch.random.fork_rng(devices(network)):
            _Checker(network, rewriter, example).run()


class _Checker:
    def __init__(self, network, rewriter, example):
        self.rewriter = rewriter
        self.nodes = list(network.graph.nodes)
        copied = copy.deepcopy(network).eval()
        self.interpreter = fx.Interpreter(copied, garbage_collect_values=False, graph=network.graph)
        self.values = self.interpreter.env = {}
        self.example = example
        self.last_use = {source: index for index, node in enumerate(self.nodes) for source in node.all_input_nodes}
        # Nodes of one family share memory in the new graph, so that what is written into one is seen in all.
        self.family = {}

    def run(self):
        for index, node in enumerate(self.nodes):
            if node.op == 'placeholder':
                self.values[node] = self.example
            elif node.op != 'output':
                self._node(index, node)
            for source in node.all_input_nodes:
                if self.last_use[source] == index:
                    del self.values[source]

    def _node(self, index, node):
        written = node in self.rewriter.written
        if written:
            inputs = {source: _copied(self.values[source]) for source in node.all_input_nodes}
        before = {source: _versions(value) for source, value in self.values.items()}
        result = self.values[node] = self.interpreter.run_node(node)
        changed = {source for source, versions in before.items() if _versions(self.values[source]) != versions}
        direct = changed & set(node.all_input_nodes)
        if written:
            why, shared, direct = self._compare(node, inputs, direct)
        else:
            why = None
            shared = [s for s in node.all_input_nodes if _memory(self.values[s]) & _memory(result)]
            if node in self.rewriter.on_frames:
                shared, direct = [], set()
        self.family[node] = next((self._family(source) for source in shared), node)
        reached = {self._family(source) for source in direct}
        for source in before:
            used = self.last_use.get(source, -1) > index
            if used and source in changed and shapes(self.values[source]) != source.meta['frame_shape']:
                why = why or 'changes the axes of a tensor that is used afterwards; use the function without _'
            elif used and (source in changed) != (self._family(source) in reached):
                why = why or 'writes in place into a tensor that is used afterwards, where clips do not share memory'
        if why:
            self.rewriter.problem(node, why)

    def _family(self, node):
        return self.family.get(node, node)

    def _compare(self, node, inputs, direct):
        """Run what stands for a node in the new graph.

        Returns:
            tuple: What is wrong, None if nothing; the inputs whose memory the result shares; those of ``direct``, which
            are changed in 2D, that are changed in the new graph as well.
        """
        try:
            found, expected, clips, pictures = self._results(node, inputs)
            why = None if _alike(found, expected) else DIFFERENT
            if why is None and not _equal(found, expected) and not self._is_random(node, inputs):
                # rounding that looks like another result, such as the mean of what has been normalised to 0
                exact = {source: _mapped(_exact, value) for source, value in inputs.items()}
                scale = max((_largest(tensor) for value in exact.values() for tensor in _tensors(value)), default=0)
                why = None if _equal(*self._results(node, exact)[:2], scale) else DIFFERENT
        except Exception as error:
            reason = str(error).strip().partition('\n')[0]
            return f'does not run on clips ({reason})', [], direct
        shared = [source for source in inputs if _memory(clips[source]) & _memory(found)]
        written = {s for s in direct if _equal(clips[s], pictures[s]) or not self.rewriter.layout(s)}
        return why, shared, {s for s in written if any(_versions(clips[s]))}

    def _results(self, node, inputs):
        """Run a node on clips, and on their frames.

        Returns:
            tuple: The results on clips and on frames, and all inputs after that. Those of frames are put together.
        """
        layouts = {source: self.rewriter.layout(source) for source in (*inputs, node)}
        other = _flipped if self.rewriter.sees_every_frame(node) else _copied
        first = {source: _copied(value) for source, value in inputs.items()}
        second = {
            source: other(value) if layouts_in(layouts[source]) else _copied(value) for source, value in inputs.items()
        }
        clips = {source: _clips([first[source], second[source]], layouts[source]) for source in inputs}
        expected = _clips([self._call(node, first), self._call(node, second)], layouts[node])
        environment = {self.rewriter.new(source): clip for source, clip in clips.items()}
        for new in self.rewriter.written[node]:
            environment[new] = self._call(new, environment)
        pictures = {source: _clips([first[source], second[source]], layouts[source]) for source in inputs}
        return environment[self.rewriter.new(node)], expected, clips, pictures

    def _call(self, node, environment):
        args, kwargs = (fx.map_arg(value, environment.__getitem__) for value in (node.args, node.kwargs))
        return getattr(self.interpreter, node.op)(node.target, args, kwargs)

    def _is_random(self, node, inputs):
        if self.rewriter.name(node) in UNINITIALISED:
            return True
        runs = [self._call(node, {source: _copied(value) for source, value in inputs.items()}) for _ in range(2)]
        return not _equal(*runs)


def _flat(value):
    """Return the tensors in nested sequences and dicts."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in _flat(item)]
    return [value] if isinstance(value, torch.Tensor) else []


def _mapped(function, value):
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        return _rebuilt(value, [_mapped(function, item) for item in value])
    return value


def _rebuilt(like, items):
    """Return items as the type of sequence that holds them; torch.return_types take them as one argument, too."""
    plain = type(like) in (tuple, list) or type(like).__module__ == 'torch.return_types'
    return type(like)(items) if plain else tuple(items)


def _exact(tensor):
    """Copy a tensor in double precision, in which rounding cannot hide, or look like, another result."""
    return tensor.to(torch.float64, copy=True) if tensor.is_floating_point() else tensor.clone()


def _copied(value):
    return _mapped(torch.clone, value)


def _flipped(value):
    return _mapped(lambda x: x.flip(0) if x.ndim else x.clone(), value)


def _clips(frames, layout):
    """Put values of two frames together to those of clips of three: the first, the second, the first."""
    if isinstance(layout, Layout):
        return torch.stack([frames[0], frames[1], frames[0]], layout.time)
    if isinstance(layout, tuple):
        return _rebuilt(frames[0], [_clips(items, place) for *items, place in zip(*frames, layout)])
    return _copied(frames[0])


def _tensors(value):
    tensors = []
    _mapped(tensors.append, value)
    return tensors


def _versions(value):
    return [tensor._version for tensor in _tensors(value)]


def _memory(value):
    return {tensor.untyped_storage().data_ptr() for tensor in _tensors(value)} - {0}


def _alike(found, expected):
    """Say whether two results are of the same types, shapes and data types."""
    if isinstance(expected, torch.Tensor):
        return isinstance(found, torch.Tensor) and (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if isinstance(expected, (tuple, list)):
        return len(found) == len(expected) and all(_alike(*pair) for pair in zip(found, expected))
    return True


def _largest(tensor):
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return 0
    finite = tensor[tensor.isfinite()].abs()
    return float(finite.max()) if finite.numel() else 0


def equal(found, expected):
    """Say whether two results of a module are of the same types and shapes, and equal but for rounding.

    Args:
        found (object): Tensors, in nested sequences and dicts.
        expected (object): The same.

    Returns:
        bool: Whether they are.
    """
    found, expected = _flat(found), _flat(expected)
    return len(found) == len(expected) and all(_alike(*pair) and _equal(*pair) for pair in zip(found, expected))


def _equal(found, expected, scale=0):
    """Say whether two results are equal but for rounding, of values as large as ``scale`` or their own largest."""
    if isinstance(expected, torch.Tensor):
        if found.shape != expected.shape or not (expected.is_floating_point() or expected.is_complex()):
            return torch.equal(found, expected)
        # 7e-5 of the largest value in float32, 4e-10 in float64
        tolerance = torch.finfo(expected.dtype).eps ** 0.6 * max(scale, _largest(expected))
        return torch.allclose(found, expected, rtol=0, atol=tolerance, equal_nan=True)
    if isinstance(expected, (tuple, list)):
        return all(_equal(*pair, scale) for pair in zip(found, expected))
    return found == expected
