//! Who may call: tokens, their roles, the service that they are bound to, and how often they may come.
//!
//! A token is looked up by its digest, one step whatever their number, and compared in constant time: how long that takes
//! tells neither its length nor its content.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use overshot_common::config::{Config, Role, TokenConfig};
use overshot_common::job::Job;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::error::ApiError;

#[cfg(test)]
mod tests;

type Digest = [u8; 32];

/// The name of everybody while there is no token; a configured name has no brackets.
const ANONYMOUS: &str = "(anonymous)";

/// Who sent a request.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The token's name in the configuration: for the log.
    name: String,
    roles: Vec<Role>,
    service: Option<String>,
    rate: Option<DefaultDirectRateLimiter>,
}

impl Caller {
    /// Somebody with all rights.
    fn full(name: String) -> Arc<Self> {
        Arc::new(Self { name, roles: Role::ALL.map(|(_, role)| role).to_vec(), service: None, rate: None })
    }

    fn named(name: &str, settings: &TokenConfig) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            roles: settings.roles.clone(),
            service: settings.service.clone(),
            rate: settings.rate_limit.map(|limit: NonZeroU32| RateLimiter::direct(Quota::per_second(limit))),
        })
    }

    /// For tests of what every caller can do.
    #[cfg(test)]
    pub(crate) fn anonymous() -> Arc<Self> {
        Self::full(ANONYMOUS.to_owned())
    }

    /// Whether nobody can say who it is.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The only owner's service whose jobs this caller may see, and under which it submits.
    pub(crate) fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    /// Whether this caller may know of jobs of that owner's service.
    pub(crate) fn sees(&self, service: Option<&str>) -> bool {
        self.service.is_none() || self.service.as_deref() == service
    }

    /// Whether this caller may know of the job.
    pub(crate) fn sees_job(&self, job: &Job) -> bool {
        self.sees(job.owner.as_ref().map(|owner| owner.service.as_str()))
    }

    /// Whether this caller may know of a collection of that name: a service's own are named for it.
    pub(crate) fn sees_collection(&self, name: &str) -> bool {
        let is_own = |rest: &str| rest.is_empty() || rest.starts_with('.');
        self.service.as_deref().is_none_or(|service| name.strip_prefix(service).is_some_and(is_own))
    }

    /// Judges a request by its method and path.
    fn may(&self, method: &Method, path: &str) -> Result<(), ApiError> {
        if let Some(Err(wait)) = self.rate.as_ref().map(RateLimiter::check) {
            let wait = wait.wait_time_from(DefaultClock::default().now());
            return Err(ApiError::too_often(wait));
        }
        let place_is_open = self.service.is_none() || PLACES_OF_A_SERVICE.iter().any(|place| path.starts_with(place));
        if place_is_open && self.roles.contains(&needed(method, path)) { Ok(()) } else { Err(ApiError::forbidden()) }
    }
}

/// Where a token of one service may go: the places that tell only of its own jobs and collections, and the pools' numbers.
const PLACES_OF_A_SERVICE: [&str; 4] = ["/api/v1/jobs", "/api/v1/keys/", "/api/v1/pools", "/api/v1/collections"];
/// Where jobs come from and are changed; whoever changes anything else operates the fleet.
const PLACES_OF_JOBS: [&str; 2] = ["/api/v1/jobs", "/v1/"];

/// The role that a request needs.
fn needed(method: &Method, path: &str) -> Role {
    if method == Method::GET || method == Method::HEAD {
        Role::Read
    } else if PLACES_OF_JOBS.iter().any(|place| path.starts_with(place)) {
        Role::Submit
    } else {
        Role::Operate
    }
}

/// Everybody whom the API knows.
#[derive(Debug)]
pub(crate) struct Access {
    known: HashMap<Digest, (Digest, Arc<Caller>)>,
    /// Who everybody is while there is no token at all.
    anonymous: Option<Arc<Caller>>,
}

impl Access {
    /// Reads the tokens of the configuration, those in variables out of `variable`.
    ///
    /// # Errors
    /// Every mistake: a variable that is not set, a token that means two callers. Never the token itself.
    pub(crate) fn new(config: &Config, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let (mut known, mut mistakes) = (HashMap::new(), Vec::new());
        let mut add = |digest: Digest, caller: &Arc<Caller>| match known.insert(digest, (digest, caller.clone())) {
            Some((_, other)) if other.name != caller.name => {
                mistakes.push(format!("tokens.{}: its token is also that of {}", caller.name, other.name));
            }
            _ => {}
        };
        for (number, token) in config.api_tokens.iter().enumerate() {
            add(digest(token.expose().as_bytes()), &Caller::full(format!("api-token-{}", number + 1)));
        }
        let mut missing = Vec::new();
        for (name, settings) in &config.tokens {
            let caller = Caller::named(name, settings);
            settings.sha256.iter().for_each(|digest| add(*digest, &caller));
            let Some(holder) = &settings.token_env else { continue };
            let text = variable(holder).unwrap_or_default();
            let tokens: Vec<&str> = text.split(',').map(str::trim).collect();
            if tokens.iter().any(|token| token.is_empty()) {
                missing.push(format!("tokens.{name}.token_env: {holder} is not set, or holds an empty token"));
            } else {
                tokens.iter().for_each(|token| add(digest(token.as_bytes()), &caller));
            }
        }
        mistakes.extend(missing);
        let anonymous =
            (config.api_tokens.is_empty() && config.tokens.is_empty()).then(|| Caller::full(ANONYMOUS.to_owned()));
        if mistakes.is_empty() { Ok(Self { known, anonymous }) } else { Err(mistakes) }
    }

    /// Who sends a request with these headers, if that one may do what it asks.
    pub(crate) fn admit(&self, headers: &HeaderMap, method: &Method, path: &str) -> Result<Arc<Caller>, ApiError> {
        if let Some(anonymous) = &self.anonymous {
            return Ok(anonymous.clone());
        }
        let caller = self.caller(headers).ok_or_else(ApiError::unauthorized)?;
        caller.may(method, path)?;
        Ok(caller.clone())
    }

    fn caller(&self, headers: &HeaderMap) -> Option<&Arc<Caller>> {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else { return None };
        let token = digest(bearer(value.as_bytes())?);
        let (known, caller) = self.known.get(&token)?;
        bool::from(known.ct_eq(&token)).then_some(caller)
    }
}

/// The token of `Bearer <token>`; the scheme's case does not count.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

fn digest(token: &[u8]) -> Digest {
    Sha256::digest(token).into()
}
