"""The version of the package, apart from the public names, which load everything."""

__version__ = "0.1.0"
