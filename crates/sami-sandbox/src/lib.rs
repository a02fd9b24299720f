//! A closed world of queries in which anybody can watch SAMI work: the embedded default.
