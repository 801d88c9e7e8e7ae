//! What callers may send, and what they are told when they may not.
