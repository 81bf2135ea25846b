"""The counts of a RedNet-26 backbone, layer by layer, from the published description."""


def involution(channels, kernel, pixels_out):
    """Multiply-adds (making the kernels, applying them) and parameters; ratio 4, 16 channels to a kernel."""
    hidden, weights = channels // 4, channels // 16 * kernel**2
    making = (channels * hidden + hidden * weights) * pixels_out  # its input is pooled first
    return making, channels * kernel**2 * pixels_out, channels * hidden + 2 * hidden + (hidden + 1) * weights


def rednet26(size, stem_channels=64, base_channels=64, stem_kernel=7):
    """Multiply-adds of convolutions, those of aggregations, parameters; for size x size pixels, a multiple of 32."""
    half, pixels = stem_channels // 2, (size // 2) ** 2
    stem = 9 * 3 * half + 9 * half * stem_channels
    convolution = stem * pixels
    parameters = stem + 2 * half + 2 * half + 2 * stem_channels
    involutions = [involution(half, stem_kernel, pixels)]
    channels, side = stem_channels, size // 4
    for stage, blocks in enumerate((1, 2, 4, 1)):
        width = base_channels * 2**stage
        for block in range(blocks):
            before = side
            if stage and block == 0:
                side //= 2
            convolution += channels * width * before**2 + width * 4 * width * side**2
            parameters += channels * width + 2 * width + 2 * width + 4 * width**2 + 2 * 4 * width
            involutions.append(involution(width, 7, side**2))
            if block == 0:
                convolution += channels * 4 * width * side**2
                parameters += channels * 4 * width + 2 * 4 * width
            channels = 4 * width
    making, aggregation, own_parameters = (sum(column) for column in zip(*involutions))
    return convolution + making, aggregation, parameters + own_parameters
