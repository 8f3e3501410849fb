"""How new weights travel from the learner to the engines: in checked buckets, by Ray's object store or over a link."""
