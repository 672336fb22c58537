"""The lake: one folder on disk that holds everything TuneGraph knows, and the rules for changing it.

`schemas` says what a row is, `storage` makes writes atomic, `raw` keeps what sources said, `tables` derives
and checks the daily tables, `lake` ties them to a folder with a lock and a format version. In
`feedback_spool` a service leaves what listeners said, and `feedback` is what that makes of their lists.
`arrays` and `tensors` hold matrices and model tensors. Nothing is imported here, so that `arrays` stays numpy
alone.
"""
