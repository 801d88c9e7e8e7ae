//! What must not leak, and who may come to Redis. `docs/SECURITY.md` names these tests.

mod leaks;
mod redis;
