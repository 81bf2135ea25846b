"""The graph of the 2D network written anew for clips, node by node, with the time axis of every tensor known."""

import itertools
from collections.abc import Mapping

import torch
from torch import fx

from . import runtime
from .arguments import Refused
from .functions import OVER_FRAMES, function_name, handler_of, shown
from .layers import inflated_layer, kind_of, runs_per_frame
from .layouts import IMAGE, Layout, layouts_in, output_layout, times_of
from .pictures import is_whole
from .rules import FRAMES

__all__ = ['Rewriter']


class Rewriter:
    """Builds the graph for clips.

    Args:
        network (fx.GraphModule): The 2D network, with the shapes that :func:`record_shapes` puts there.
        rules (Rules): The rules.

    Attributes:
        graph (fx.Graph): The new graph.
        replaced (dict[str, nn.Module]): New modules by name.
        inflated (set[str]): Names of the layers that got a 3D form.
        problems (dict[str, str]): What cannot be inflated, in words, by place.
        concerned (dict[str, None]): Names of the modules that the problems are in, in their order.
        written (dict[fx.Node, list[fx.Node]]): What stands in the new graph for each function that sees time.
        on_frames (set[fx.Node]): Nodes that run as they are on every frame.
    """

    def __init__(self, network, rules):
        self.network = network
        self.rules = rules
        self.graph = fx.Graph()
        self.replaced = {}
        self.inflated = set()
        self.problems = {}
        self.concerned = {}
        self.written = {}
        self.on_frames = set()
        self._new = {}
        self._layouts = {}
        self._made_of_input = set()
        self._without_time = set()

    def run(self):
        """Write the graph."""
        for node in self.network.graph.nodes:
            if any(source in self._made_of_input for source in node.all_input_nodes):
                self._made_of_input.add(node)
            if node.op == 'placeholder':
                self._made_of_input.add(node)
                self.put(node, self.graph.node_copy(node), IMAGE)
            elif node.op == 'output':
                self.graph.output(fx.map_arg(node.args[0], self._output))
            elif not self.clips_in(node):
                self.keep(node)
                if node.op == 'call_module':
                    self._without_time.add(node.target)
            else:
                self._with_time(node)
        for name in self._without_time & set(self.replaced):
            if type(self.replaced[name]) is not type(self.network.get_submodule(name)):
                self.problems[name] = f'{name!r} stands in two places, one of which has no time axis; use two modules'

    def _with_time(self, node):
        last = next(reversed(self.graph.nodes))
        try:
            if node.op == 'call_module':
                self._module(node)
            else:
                self._function(node)
                new = itertools.takewhile(lambda new: new is not last, reversed(self.graph.nodes))
                self.written[node] = list(new)[::-1]
        except Refused as refused:
            self.problem(node, str(refused))

    # what the handlers of functions use

    def name(self, node):
        """Return the name by which a function is known here, the same for all its spellings."""
        return function_name(node)

    def put(self, node, new, layout):
        """Note what stands for a node, and where its time axis is (None for none, a tuple for several results)."""
        self._new[node] = new
        self._layouts[node] = layout

    def layout(self, node):
        """Return the layout of a node; None for what has no time axis or is no node."""
        return self._layouts[node] if isinstance(node, fx.Node) else None

    def clip(self, node):
        """Return the layout of a node that has to be one tensor with time.

        Raises:
            Refused: If it is none.
        """
        layout = self.layout(node)
        if not isinstance(layout, Layout):
            raise Refused('is called with other than a tensor with time as its first argument')
        return layout

    def sees_every_frame(self, node):
        """Say whether what a function gives for each frame depends on this frame only."""
        layouts = self.layout(node)
        nested = isinstance(layouts, tuple)
        return (None not in layouts if nested else layouts is not None) and self.name(node) not in OVER_FRAMES

    def shape(self, node):
        """Return the shape that a node's tensor has in the 2D network with two images, None if it is no tensor."""
        shape = node.meta['frame_shape'] if isinstance(node, fx.Node) else None
        return shape if isinstance(shape, tuple) else None

    def new(self, value):
        """Return an argument with the new nodes in it."""
        return fx.map_arg(value, self._new.__getitem__)

    def clips_in(self, node):
        """Return the inputs of a node that have a time axis."""
        return [source for source in node.all_input_nodes if layouts_in(self._layouts[source])]

    def call(self, function, *args, **kwargs):
        """Add a call of a function, or of a method by name."""
        if isinstance(function, str):
            return self.graph.call_method(function, args, kwargs)
        node = self.graph.call_function(function, args, kwargs)
        node.meta['is_wrapped'] = function.__module__ == runtime.__name__  # not traced into when unpickled
        return node

    def at(self, node, time):
        """Return a node's tensor with time in some place."""
        now = self.layout(node).time
        return self._new[node] if now == time else self.call('movedim', self._new[node], now, time)

    def again(self, node, args, kwargs=None):
        """Add a call of what a node calls."""
        return self.graph.create_node(node.op, node.target, tuple(args), kwargs or {})

    def keep(self, node):
        """Copy a node as it is."""
        self.put(node, self.graph.node_copy(node, self._new.__getitem__), None)

    def per_frame(self, node):
        """Let a node do on every frame what it does in 2D."""
        clips = self.clips_in(node)
        first = next((clip for clip in clips if isinstance(self.layout(clip), Layout)), None)
        layouts = self._result_layouts(node.meta['frame_shape'], None if first is None else self.layout(first))
        if first is None or not layouts_in(layouts):
            raise Refused('takes or gives no tensor with the batch as its first axis')
        self.on_frames.add(node)
        length = self.call('size', self._new[first], self.layout(first).time)

        def frames(source):
            layout, shape = self.layout(source), self.shape(source)
            if isinstance(layout, Layout):
                return self.call(runtime.into_frames, self._new[source], layout.time)
            if shape and shape[0] == 2 and source in self._made_of_input:
                repeated = self.call(runtime.repeat_in_time, self._new[source], 1, length)
                return self.call(runtime.into_frames, repeated, 1)
            return self._new[source]

        result = self.again(node, fx.map_arg(node.args, frames), fx.map_arg(node.kwargs, frames))
        self.put(node, self.call(runtime.from_frames, result, times_of(layouts), length), layouts)

    def pool_over_time(self, node, function='mean'):
        """Average what a node has given over time, which ends there; or take the maximum by ``'amax'``."""
        layout = self.layout(node)
        self.put(node, self.call(function, self._new[node], layout.time), None)

    def problem(self, node, why):
        """Note that a node cannot be inflated, and go on as if it gave what it gives in 2D."""
        if node.op == 'call_module':
            place = node.target
            what = f'{place!r} ({type(self.network.get_submodule(place)).__name__})'
            rule = f"{place!r}: 'frames'"
            self.concerned[place] = None
        else:
            stack = list(node.meta.get('nn_module_stack') or {})
            module = stack[-1] if stack else ''
            what = f'{shown(node)} in {module!r}' if module else f'{shown(node)} in the forward of the network'
            rule = f"{module!r}: 'frames'" if module else f"{shown(node)}: 'frames'"
            place = what
            if module:
                self.concerned[module] = None
        self.problems.setdefault(place, f'{what} {why}; {"or " * (";" in why)}add rules={{{rule}}}')
        if node in self._new:
            return
        given = next((layout for clip in self.clips_in(node) for layout in layouts_in(self.layout(clip))), IMAGE)
        first = self._new[self.clips_in(node)[0]]
        self.put(node, first, self._result_layouts(node.meta['frame_shape'], given))

    def _result_layouts(self, shape, given):
        if isinstance(shape, list):
            return tuple(self._result_layouts(item, given) for item in shape)
        return output_layout(shape, given) if shape and shape[0] == 2 else None

    # nodes

    def _output(self, node):
        layout = self.layout(node)
        if not isinstance(layout, Layout):
            return self._new[node]
        is_map = layout.rank == 4 and (layout.frame[1] == 'C' or layout.frame[2:] == ('H', 'W'))
        return self.at(node, 2 if is_map else 1)

    def _function(self, node):
        function = getattr(torch.Tensor, node.target, None) if node.op == 'call_method' else node.target
        if node.kwargs.get('out') is not None:
            raise Refused('writes into out, which is not known for clips; use what it returns')
        if self.rules.of_function(function):
            self.per_frame(node)
            return
        handler = handler_of(node)
        if handler is None:
            raise Refused('has no 3D form')
        handler(self, node)

    def _module(self, node):
        name, module = node.target, self.network.get_submodule(node.target)
        key, rule = self.rules.of_module(name, module) or (None, {})
        self.rules.use(key)
        kind = kind_of(module)
        if isinstance(rule, str) and rule == FRAMES:
            self.per_frame(node)
        elif not isinstance(rule, Mapping):
            self._own(node, module, rule)
        elif kind is None:
            raise Refused('is of a type that is not known')
        elif not rule and runs_per_frame(module, kind):
            self.per_frame(node)
            if isinstance(module, torch.nn.AvgPool2d):
                shapes = self.shape(self.clips_in(node)[0]), self.shape(node)
                if is_whole(module.kernel_size, module.padding, *shapes):
                    self.pool_over_time(node)
        else:
            self._layer(node, module, kind, rule)

    def _own(self, node, module, function):
        """Call what the user's function makes of a module."""
        if node.target not in self.replaced:
            self.replaced[node.target] = function(module)
            if not isinstance(self.replaced[node.target], torch.nn.Module):
                raise TypeError(
                    f'rules: the function for {node.target!r} returned {self.replaced[node.target]!r}; it has to '
                    'return an nn.Module'
                )

        def clip(source):
            layout = self.layout(source)
            if not isinstance(layout, Layout):
                return self._new[source]
            return self.at(source, 2) if layout.rank == 4 else self._new[source]

        layouts = self._result_layouts(node.meta['frame_shape'], IMAGE)
        self.put(node, self.again(node, fx.map_arg(node.args, clip), fx.map_arg(node.kwargs, clip)), layouts)

    def _layer(self, node, module, kind, options):
        source = self.clips_in(node)[0]
        layout = self.layout(source)
        picture = kind in ('conv', 'pool', 'global', 'picture')
        if not isinstance(layout, Layout) or len(node.all_input_nodes) != 1 or (picture and layout.rank != 4):
            raise Refused('is called with other than one tensor [N, C, H, W]')
        if node.target not in self.replaced:
            try:
                self.replaced[node.target] = inflated_layer(module, kind, options)
            except (TypeError, ValueError) as error:
                raise ValueError(f'{node.target!r} ({type(module).__name__}): {error}') from error
            if type(self.replaced[node.target]) is not type(module):
                self.inflated.add(node.target)
        if picture or kind == 'channel':
            layout = IMAGE if picture else layout.at(min(2, layout.rank))
        elif kind in ('linear', 'last'):
            layout = layout.at(min(layout.time, max(1, layout.rank - len(getattr(module, 'normalized_shape', '1')))))
        x = self.at(source, layout.time)
        if kind == 'linear' and options:
            x = self.call(runtime.join_frames, x, layout.time, options['frames'])
        result = self.again(node, [x])
        if kind == 'global':
            result = self.call('squeeze', result, 2)
        ends = kind == 'global' or (kind == 'linear' and options)
        self.put(node, result, None if ends else layout)
