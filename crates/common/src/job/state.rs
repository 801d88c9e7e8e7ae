//! The table of moves: who may bring a job from which status to which.
