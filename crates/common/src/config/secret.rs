//! Values that must not reach a log line.

use std::fmt;

/// A secret text. `Debug` never shows it; who needs it says so with [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: for comparing and sending only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where Redis is. `Debug` and `Display` leave out the credentials; [`RedisUrl::expose`] has them.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    const SCHEMES: [&str; 8] = [
        "redis://",
        "rediss://",
        "unix://",
        "redis+unix://",
        "redis+cluster://",
        "rediss+cluster://",
        "redis+sentinel://",
        "rediss+sentinel://",
    ];

    /// Checks the scheme; whether Redis is there, only a connection tells.
    ///
    /// # Errors
    /// What is wrong, without the value.
    pub fn new(text: &str) -> Result<Self, String> {
        let rest = Self::SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme));
        match rest {
            None => {
                Err("must begin with redis://, rediss://, unix://, redis+cluster:// or redis+sentinel://".to_owned())
            }
            Some(rest) if rest.is_empty() || rest.chars().any(char::is_whitespace) => {
                Err("names no host or path".to_owned())
            }
            Some(_) => Ok(Self(text.to_owned())),
        }
    }

    /// Whether Redis is spoken to over TLS.
    pub fn is_tls(&self) -> bool {
        self.0.starts_with("rediss")
    }

    /// The whole URL, for the connection only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("redis", ""));
        // An unescaped '@' behind a '?': of a password in either place, and what is the host cannot be told.
        if rest.find('?').is_some_and(|query| rest[query..].contains('@')) {
            return write!(f, "{scheme}://…");
        }
        // A password may itself hold an unescaped '@', '/' or '?': all up to the last '@' goes.
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        // With unix sockets and for Sentinels a password stands in the query.
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        write!(f, "{scheme}://{rest}")
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}
