"""Compiled loops: arrays and scalars in, arrays out; no I/O, no policy, no exceptions, no allocation.

A kernel writes into its last arguments and checks nothing but what it takes from a mapped file: a corrupt
row or offset is never dereferenced. What the caller must have checked stands in each module's docstring.
Kernels run without the GIL, so `vecstore.threads` can run one kernel over several ranges of a batch at once.

``code``       how a kernel is compiled, kept on disk and loaded
``memory``     prefetch, unaligned loads, memcpy: what numba has no name for
``objects``    Python's own objects: the text of a str, the items of a tuple
``machine``    how a kernel is called
``lookup``     hashing keys, filling a table, finding rows
``recalling``  tokens of running text found, most of them again
``counting``   how often each token was seen
``narrowing``  float32 numbers in fewer bits, and back
``gathering``  rows of a matrix
``pooling``    rows of documents, each document's made one
``sampling``   normal vectors from hashes
``cutting``    texts lower-cased and cut into tokens
``packing``    keys put end to end
``padding``    ids of tokens as a matrix
``paging``     pages of a mapped file, before they are touched
``ints``       Python's int objects as numbers
``records``    word2vec records out of a block of bytes
``text``       keys and numbers out of lines of text
``writing``    records and lines of text out of keys and numbers
"""
