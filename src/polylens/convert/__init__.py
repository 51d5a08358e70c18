"""From what people have to a Network: modules, exported programs, ONNX files, weight files, plain arrays."""


def load(*a, **k):
    raise RuntimeError
