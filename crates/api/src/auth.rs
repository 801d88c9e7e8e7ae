//! Bearer tokens. Compared as digests and in constant time, so that neither length nor content leaks by timing.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

/// The tokens that open the API; none: it is open.
#[derive(Clone)]
pub(crate) struct Tokens {
    digests: Vec<[u8; 32]>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.digests.len())
    }
}

impl Tokens {
    pub(crate) fn new<'a>(tokens: impl Iterator<Item = &'a str>) -> Self {
        Self { digests: tokens.map(|token| digest(token.as_bytes())).collect() }
    }

    /// Whether a request with these headers may pass.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> bool {
        if self.digests.is_empty() {
            return true;
        }
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else { return false };
        let Some(token) = bearer(value.as_bytes()) else { return false };
        let token = digest(token);
        let found = self.digests.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(&token));
        found.into()
    }
}

/// The token of `Bearer <token>`; the scheme's case does not count.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn admits(tokens: &[&str], header: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(header).unwrap());
        }
        Tokens::new(tokens.iter().copied()).admit(&headers)
    }

    #[test]
    fn without_tokens_the_api_is_open() {
        assert!(admits(&[], None));
        assert!(admits(&[], Some("Bearer anything")));
    }

    #[test]
    fn each_of_several_tokens_opens() {
        assert!(admits(&["one", "two"], Some("Bearer one")));
        assert!(admits(&["one", "two"], Some("bearer two")));
    }

    #[test]
    fn anything_else_is_refused() {
        for header in ["", "Bearer", "Bearer ", "Bearer on", "Bearer onee", "Basic one", "one", "Bearer one,two"] {
            assert!(!admits(&["one", "two"], Some(header)), "{header}");
        }
        assert!(!admits(&["one"], None));
    }

    #[test]
    fn two_authorization_headers_are_refused() {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer one"));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer one"));
        assert!(!Tokens::new(["one"].into_iter()).admit(&headers));
    }
}
