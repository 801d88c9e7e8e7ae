//! Whether a server is there: it lists its models, or says at least something.

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

/// Asks for what costs a server nothing. Who answers at all is there: not every server knows the path, or lets every key
/// ask, and some serve nothing but completions. Only nobody, and a gateway that finds nobody behind it, is down.
pub(in crate::providers) async fn check(http: &reqwest::Client, url: Url) -> Result<(), ProviderFailure> {
    let response = match http.get(url).send().await {
        Err(error) if error.is_connect() || error.is_timeout() => return Err(errors::unreachable(&error)),
        Err(_) => return Ok(()),
        Ok(response) => response,
    };
    let status = response.status().as_u16();
    match status {
        502..=504 => {
            let retry_after = retry_after::read(response.headers());
            Err(read_error(response).await.classify(status, retry_after))
        }
        _ => Ok(()),
    }
}
