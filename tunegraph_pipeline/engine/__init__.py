"""Where the blocks of a stage run: in this process, or as tasks of a Ray cluster.

Here: the engine and its settings (`engine`), the loop in this process (`local`), the cluster (`ray`), and how
blocks and their results travel (`workspace`). Not here: what a block is, or what is made of it: that is with
each stage.
"""
