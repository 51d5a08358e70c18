"""What can go wrong, drawn as a tree. Every message says what was expected, what came and what to do.

PolylensError
├── InputError (ValueError)              a value of the user's: NaN, integers, an empty batch, an unknown name
│   └── ShapeError                       a tensor of the wrong shape
├── UnsupportedError (NotImplementedError)   an operation that no step can represent
├── GeometryError (ValueError)           a question that the polytope does not answer: empty, unbounded, too many dimensions
├── SmoothError (ValueError)             an exact affine map was asked where the network is not piecewise linear
├── ConversionError (RuntimeError)       the converted program disagrees with its source
└── FileError (ValueError)               missing, truncated or foreign files
    └── UnsafeFileError                  a file that would run code when loaded
"""


class PolylensError(Exception):
    """The base of every error that polylens raises on purpose."""


class InputError(PolylensError, ValueError):
    """A value that the caller gave cannot be used."""


class ShapeError(InputError):
    """A tensor does not have the shape that was expected."""


class UnsupportedError(PolylensError, NotImplementedError):
    """The source holds an operation that no step can represent."""


class GeometryError(PolylensError, ValueError):
    """The polytope is empty, unbounded or of too high a dimension for what was asked."""


class SmoothError(PolylensError, ValueError):
    """An exact affine map was asked of a network that is not piecewise linear there."""


class ConversionError(PolylensError, RuntimeError):
    """The converted program does not give the outputs of its source."""


class FileError(PolylensError, ValueError):
    """A file is missing, truncated or not what its name says."""


class UnsafeFileError(FileError):
    """A file would run code of its own when loaded."""
