"""The lake: one folder on disk that holds everything TuneGraph knows, and the rules for changing it.

`schemas` declares the tables, `storage` makes writes atomic, `raw` keeps what sources said, `tables` derives
and checks the daily tables, `lake` ties them to a folder with a lock and a format version. A service leaves
feedback in `feedback_spool`; `feedback` applies it to the lists. `arrays` and `tensors` hold matrices and
model tensors. Nothing is imported here, so that `arrays` needs numpy alone.
"""
