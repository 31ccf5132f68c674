"""The version of vecstore, which every store names as its writer."""

__version__ = "0.1.0"
