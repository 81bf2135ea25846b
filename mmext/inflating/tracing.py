"""The 2D network as a graph: tracing down to layers that are known."""

import inspect
import operator
import warnings

import torch
from torch import fx, nn

from . import runtime
from .layers import kind_of, traced_through
from .probing import Probe

__all__ = ['Tracer', 'trace']

DEEPEST = 50  # x[0][0]..., far more than code that ends has


class _Sized:
    """A value that knows how many sizes it holds: ``len(x.shape)``, ``tuple(x.shape[-2:])``."""

    def __len__(self):
        value = self.tracer.of_shapes(self)
        return len(value) if isinstance(value, tuple) else super().__len__()


class _Attribute(_Sized, fx.proxy.Attribute):
    pass


class _Proxy(_Sized, fx.Proxy):
    def __getattr__(self, name):
        return _Attribute(self, name)


class Tracer(fx.Tracer):
    """Tracer whose leaves are the modules that a rule or a known type stands for.

    Args:
        rules (Rules): The rules.
        image_size (int or tuple): As of :func:`mmext.inflate`.
    """

    def __init__(self, rules, image_size):
        super().__init__(param_shapes_constant=True)
        self.rules = rules
        self.image_size = image_size
        self.failed = None
        self._probe = None
        self._probing = False

    def is_leaf_module(self, m, module_qualified_name):
        """Say whether tracing does not go into a module."""
        if self.rules.of_module(module_qualified_name, m) is not None or kind_of(m) is not None:
            return True
        return not traced_through(m) and super().is_leaf_module(m, module_qualified_name)

    def getattr(self, attr, attr_val, parameter_proxy_cache):
        """Trace the use of a buffer; one that is computed with while tracing would become a constant."""
        if isinstance(attr_val, torch.Tensor) and not isinstance(attr_val, nn.Parameter):
            for name, buffer in self.root.named_buffers():
                if buffer is attr_val:
                    if name not in parameter_proxy_cache:
                        parameter_proxy_cache[name] = self.create_proxy('get_attr', name, (), {})
                    return parameter_proxy_cache[name]
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj):
        """Decide a condition on shapes as images of ``image_size`` do; the network checks it when it runs."""
        value = self.of_shapes(obj)
        if value is None:
            return super().to_bool(obj)
        self.create_proxy('call_function', runtime.same_branch, (obj, bool(value)), {})
        return bool(value)

    def iter(self, obj):
        """Go through sizes one by one, such as those of ``height, width = x.shape[-2:]``."""
        value = self.of_shapes(obj)
        return iter([obj[index] for index in range(len(value))]) if isinstance(value, tuple) else super().iter(obj)

    def create_proxy(self, kind, target, args, kwargs, *more, **options):
        """Record a call; refuse to index without end, as loops do that look for a tensor within a result."""
        proxy = super().create_proxy(kind, target, args, kwargs, *more, **options)
        if target is operator.getitem and isinstance(args[0], fx.Proxy):
            depth = proxy.node.meta['depth'] = args[0].node.meta.get('depth', 0) + 1
            if depth > DEEPEST:
                raise ValueError(f'its code, or a hook, indexes a result {DEEPEST} times over, looking for a tensor')
        return proxy

    def proxy(self, node):
        """Return the value that stands for a node while tracing."""
        return _Proxy(node, self)

    def of_shapes(self, proxy):
        """Return a value as it is for images of ``image_size``, None if it depends on more than shapes."""
        if self._probe is None:
            self._probe = Probe(self.root, self.image_size)
        self._probing = True
        try:
            return self._probe.of_shapes(proxy.node)
        finally:
            self._probing = False

    def call_module(self, m, forward, args, kwargs):
        """Trace a call, and remember the innermost module that cannot be traced."""
        if self._probing:
            return forward(*args, **kwargs)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            if self.failed is None:
                self.failed = self.path_of_module(m), m
            raise

    def create_args_for_root(self, root_fn, is_module, concrete_args=None):
        """Make the image the only input; other arguments keep their defaults."""
        names = list(inspect.signature(self.root.forward).parameters)
        return root_fn, [self.root, self.create_proxy('placeholder', names[0].lstrip('*'), (), {})]


def trace(model, rules, image_size):
    """Trace a model.

    Args:
        model (nn.Module): A network of images [N, C, H, W].
        rules (Rules): The rules.
        image_size (int or tuple): As of :func:`mmext.inflate`.

    Returns:
        fx.GraphModule: The 2D network.

    Raises:
        ValueError: If it cannot be traced; the message names the module and the rule that helps.
    """
    required = [
        name
        for name, parameter in inspect.signature(model.forward).parameters.items()
        if parameter.default is parameter.empty and parameter.kind in (0, 1, 3)
    ]
    if len(required) > 1:
        raise ValueError(
            f'{type(model).__name__} needs {", ".join(required)}; give a network whose forward takes an image alone'
        )
    tracer = Tracer(rules, image_size)
    try:
        with warnings.catch_warnings():
            # full backward hooks of containers get what stands for tensors here; that they are lost is said later
            warnings.filterwarnings('ignore', 'For backward hooks to be called')
            graph = tracer.trace(model)
    except Exception as error:
        path, module = tracer.failed or ('', model)
        reason = str(error).strip().partition('\n')[0]
        if path:
            where = f'{path!r} ({type(module).__name__})'
            step = f"run it as it is on every frame by rules={{{path!r}: 'frames'}}, or give a 3D module"
        else:
            where = f'the forward of {type(model).__name__} itself'
            step = 'move what depends on data into a module of its own, and give that one a rule'
        hint = ' (with_cp=True recomputes: build the network without)' * bool(getattr(module, 'with_cp', False))
        raise ValueError(f'{where} cannot be traced by torch.fx{hint}: {reason}; {step}') from error
    return fx.GraphModule(model, graph)
