//! Whether a server is there: it lists its models, or says at least that it does not know how.

use reqwest::Url;

use super::{Client, errors, read_error, retry_after};
use crate::providers::ProviderFailure;

impl Client {
    /// Asks for the list of models.
    pub(in crate::providers) async fn check(&self) -> Result<(), ProviderFailure> {
        let url = self.url.join("../models").expect("a URL with a path has a place beside it");
        check(&self.http, url).await
    }
}

/// Asks for what costs a server nothing.
pub(in crate::providers) async fn check(http: &reqwest::Client, url: Url) -> Result<(), ProviderFailure> {
    let response = http.get(url).send().await.map_err(|error| errors::unreachable(&error))?;
    let status = response.status().as_u16();
    match status {
        // Not every server knows the path.
        200..=299 | 404 | 405 | 501 => Ok(()),
        _ => {
            let retry_after = retry_after::read(response.headers());
            Err(read_error(response).await.classify(status, retry_after))
        }
    }
}
