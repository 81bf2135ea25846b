"""What the compiled CPU backends of all operators share: kernels on PyTorch's threads, explicit vector code."""
