//! `[tokens.NAME]`: who may call the API, and what for.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::mistakes::Mistakes;
use super::reader::{Section, join};

/// A token of the API, or several that mean the same caller, while one replaces the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenConfig {
    /// The variable that holds it, or several separated by commas. Only an API needs it, so only an API can miss it.
    pub token_env: Option<String>,
    /// SHA-256 of tokens that are kept elsewhere.
    pub sha256: Vec<[u8; 32]>,
    /// What it opens.
    pub roles: Vec<Role>,
    /// The only owner's service whose jobs it sees, and under which it submits; `None`: all.
    pub service: Option<String>,
    /// Requests per second that an API process takes of it, and in one go; `None`: any number.
    pub rate_limit: Option<NonZeroU32>,
}

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// To submit jobs, cancel them, run them again, change their metadata.
    Submit,
    /// To look.
    Read,
    /// To change the fleet: pause and resume pools, drain workers.
    Operate,
}

impl Role {
    /// Every role, with its name.
    pub const ALL: [(&'static str, Self); 3] =
        [("submit", Self::Submit), ("read", Self::Read), ("operate", Self::Operate)];
}

impl TokenConfig {
    /// Longest name of a service, in bytes: that of an owner's.
    pub const SERVICE_BYTES_MAX: usize = 64;
    /// The most requests per second that a limit can be.
    const RATE_MAX: u32 = 1_000_000;

    pub(super) fn read(name: &str, mut from: Section, mistakes: &mut Mistakes) -> Self {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
        let path = join("tokens", name);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
            mistakes.add(&path, "a token's name is 1 to 64 characters of a-z, A-Z, 0-9, '_' and '-'");
        }
        let token_env = from.text(mistakes, "token_env").filter(|variable| {
            let good = super::provider::is_variable(variable);
            if !good {
                // The value may be the token itself, put here by mistake: it is not repeated.
                mistakes.add(&from.key("token_env"), "must be the name of an environment variable");
            }
            good
        });
        let hashes = from.texts(mistakes, "token_sha256").unwrap_or_default();
        let sha256: Vec<_> = hashes.iter().filter_map(|hash| digest(hash)).collect();
        if sha256.len() < hashes.len() {
            mistakes.add(&from.key("token_sha256"), "must be SHA-256 digests, 64 hexadecimal digits each");
        } else if token_env.is_none() && sha256.is_empty() {
            mistakes.add(&path, "needs token_env or token_sha256");
        }
        let roles = read_roles(&mut from, mistakes);
        let service = from.text(mistakes, "service");
        if service.as_ref().is_some_and(|service| service.len() > Self::SERVICE_BYTES_MAX || service.contains('\0')) {
            mistakes.add(&from.key("service"), format!("must be 1 to {} bytes long", Self::SERVICE_BYTES_MAX));
        }
        if service.is_some() && roles.contains(&Role::Operate) {
            mistakes.add(&from.key("service"), "a token of one service cannot operate the fleet");
        }
        let limited = from.names().iter().any(|name| name == "rate_limit");
        let rate_limit = limited.then(|| from.integer(mistakes, "rate_limit", &(1..=Self::RATE_MAX), 1));
        from.finish(mistakes);
        Self { token_env, sha256, roles, service, rate_limit: rate_limit.and_then(NonZeroU32::new) }
    }
}

fn read_roles(from: &mut Section, mistakes: &mut Mistakes) -> Vec<Role> {
    let names = from.texts(mistakes, "roles").unwrap_or_default();
    let role = |name: &String| Role::ALL.iter().find(|(known, _)| known == name).map(|(_, role)| *role);
    let roles: Vec<_> = names.iter().filter_map(role).collect();
    if names.is_empty() || roles.len() < names.len() {
        mistakes.add(&from.key("roles"), "must name one or more of submit, read, operate");
    }
    roles
}

/// The tokens' sections, by name.
pub(super) fn read_all(root: &mut Section, mistakes: &mut Mistakes) -> BTreeMap<String, TokenConfig> {
    let sections = root.sections(mistakes, "tokens").into_iter();
    sections.map(|(name, section)| (name.clone(), TokenConfig::read(&name, section, mistakes))).collect()
}

/// Reads `cors_origins`: `*`, or origins such as `https://app.example.com`.
pub(super) fn read_origins(root: &mut Section, mistakes: &mut Mistakes) -> Vec<String> {
    let origins = root.texts(mistakes, "cors_origins").unwrap_or_default();
    let good = |origin: &String| {
        let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let host =
            |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b));
        rest.is_some_and(host) || origin == "*" && origins.len() == 1
    };
    if !origins.iter().all(good) {
        mistakes.add("cors_origins", "must be \"*\" alone, or origins such as \"https://app.example.com\"");
    }
    origins
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .trim()
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}
