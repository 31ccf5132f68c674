"""Jobs: a function of batches applied to files, in parts that are kept until all of them are there.

A corpus is read in blocks by one process; workers make a part of each block, beside the target; at the end the parts
become the target. A job that was killed goes on with the parts that it finds.
"""
