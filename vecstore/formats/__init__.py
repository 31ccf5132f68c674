"""Published word-vector files: readers, one module a grammar, each a `source.VectorSource`; and writers.

``compression``  which way a file is packed, and how it is unpacked
``stream``       a file's or pipe's bytes, unpacked, with the place in the file
``source``       what every reader gives: blocks of keys and vectors
``word2vec``     word2vec binary
``lines``        what a line of text is, and which files are text
``text``         word2vec text, GloVe, fastText ``.vec``
``rows``         what matrices share whose keys lie elsewhere
``memory``       vectors in memory: pairs of keys and vectors, gensim's objects
``npy``          a matrix in NumPy's format
``safetensors``  a matrix in safetensors
``model2vec``    the folder of a model2vec model
``detect``       which reader a source needs
``writers``      what `vecstore.export` writes

A new format is a module beside these with a class that has a `VectorSource`'s attributes, and a line in
``detect``.
"""
