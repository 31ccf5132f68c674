"""vecstore: a memory-mapped store for pre-trained word vectors.

`convert` turns a published file into a store, once; `open` maps it in about a millisecond, and any number of
processes share it. `load` does both, whichever is needed; `export` writes a store as a file for other programs.

>>> import vecstore
>>> store = vecstore.open("glove.vecstore")
>>> store.matrix({"nice": 1, "qwertzuiop": 2})
EmbeddingMatrix(3 x 50 float32: 1 of 2 keys found (50.0%); missing: 'qwertzuiop')

`vecstore.keras`, imported by that name, hands such a matrix to a Keras model.
"""

from vecstore.component import CommonComponent
from vecstore.convert import convert
from vecstore.counts import Counts, count
from vecstore.encoding import Encoder, encode, encode_ragged
from vecstore.errors import (
    FormatError,
    FormatWarning,
    MissingPackageError,
    RemoteError,
    StoreError,
    TargetBusyError,
    TargetError,
    VecstoreError,
    VocabularyError,
)
from vecstore.export import export
from vecstore.functions import CountTexts, EmbedTexts, EncodeTexts
from vecstore.layout import Metadata, Source
from vecstore.load import load
from vecstore.matrix import EmbeddingMatrix
from vecstore.process import process_files
from vecstore.progress import Progress
from vecstore.report import ConversionReport, JobReport, RoundingErrors
from vecstore.store import VectorStore
from vecstore.store import open_store as open
from vecstore.tokenizer import Tokenizer
from vecstore.tokens import Tokens
from vecstore.verify import Problem, verify
from vecstore.version import __version__

__all__ = [
    "CommonComponent",
    "ConversionReport",
    "CountTexts",
    "Counts",
    "EmbedTexts",
    "EmbeddingMatrix",
    "EncodeTexts",
    "Encoder",
    "FormatError",
    "FormatWarning",
    "JobReport",
    "Metadata",
    "MissingPackageError",
    "Problem",
    "Progress",
    "RemoteError",
    "RoundingErrors",
    "Source",
    "StoreError",
    "TargetBusyError",
    "TargetError",
    "Tokenizer",
    "Tokens",
    "VecstoreError",
    "VectorStore",
    "VocabularyError",
    "__version__",
    "convert",
    "count",
    "encode",
    "encode_ragged",
    "export",
    "load",
    "open",
    "process_files",
    "verify",
]
