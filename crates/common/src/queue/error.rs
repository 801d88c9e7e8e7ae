//! What can go wrong between us and Redis, split by what the caller does next.

/// Why a call on the queue failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Redis could not be reached or did not answer in time. The move may or may not have happened: every
    /// move is idempotent by id, so that the caller may send it again.
    #[error("redis is unavailable: {0}")]
    Unavailable(String),
    /// Redis is out of memory and takes no new work.
    #[error("redis is out of memory")]
    OutOfMemory,
    /// A reply or a record is not what our scripts write.
    #[error("unexpected data in redis: {0}")]
    Corrupt(String),
    /// Redis refused the command.
    #[error("redis refused a command: {0}")]
    Refused(String),
    /// The configuration does not fit what is stored.
    #[error("{0}")]
    Mismatch(String),
}

impl Error {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::OutOfMemory)
    }

    /// Says that a reply or a record cannot be read.
    pub(crate) fn corrupt(what: impl std::fmt::Display) -> Self {
        Self::Corrupt(what.to_string())
    }
}

impl From<redis::ParsingError> for Error {
    fn from(error: redis::ParsingError) -> Self {
        Self::corrupt(error)
    }
}
