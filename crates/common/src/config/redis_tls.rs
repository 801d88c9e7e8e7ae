//! What the programs show Redis, and expect of it, where it is spoken to over TLS: files that the environment names.

use std::collections::BTreeMap;
use std::fmt;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::mistakes::Mistakes;
use super::secret::{RedisUrl, Secret};

const AUTHORITIES: &str = "OVERSHOT_REDIS_CA_FILE";
const CERTIFICATE: &str = "OVERSHOT_REDIS_CERT_FILE";
const KEY: &str = "OVERSHOT_REDIS_KEY_FILE";

/// Certificates for the way to Redis, as PEM. `Debug` shows none of it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// Who may have signed the server's certificate; `None`: the system's authorities.
    pub authorities: Option<String>,
    /// The programs' own certificate, with those between it and its authority, and its key.
    pub identity: Option<(String, Secret)>,
}

impl RedisTls {
    /// Reads the files that the variables name. Each must hold what its name says.
    pub(super) fn read(env: &BTreeMap<String, String>, url: &RedisUrl, mistakes: &mut Mistakes) -> Self {
        let mut file = |name: &str, holds: &dyn Fn(&[u8]) -> bool, what: &str| {
            let path = env.get(name).filter(|path| !path.is_empty())?;
            if !url.is_tls() {
                mistakes.add(name, "needs an OVERSHOT_REDIS_URL with TLS: rediss://");
                return None;
            }
            match std::fs::read_to_string(path) {
                Ok(text) if holds(text.as_bytes()) => return Some(text),
                Ok(_) => mistakes.add(name, format!("the file holds no {what} in PEM form")),
                Err(error) => mistakes.add(name, format!("cannot be read: {}", error.kind())),
            }
            None
        };
        let authorities = file(AUTHORITIES, &holds_certificates, "certificate");
        let certificate = file(CERTIFICATE, &holds_certificates, "certificate");
        let key = file(KEY, &|text| PrivateKeyDer::from_pem_slice(text).is_ok(), "private key");
        let named = |name: &str| env.get(name).is_some_and(|path| !path.is_empty());
        match (named(CERTIFICATE), named(KEY)) {
            (true, false) => mistakes.add(KEY, format!("is missing beside {CERTIFICATE}")),
            (false, true) => mistakes.add(CERTIFICATE, format!("is missing beside {KEY}")),
            _ => {}
        }
        Self { authorities, identity: certificate.zip(key.map(Secret::new)) }
    }
}

impl fmt::Debug for RedisTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (authorities, identity) = (self.authorities.is_some(), self.identity.is_some());
        f.debug_struct("RedisTls").field("authorities", &authorities).field("identity", &identity).finish()
    }
}

/// At least one certificate, and nothing that is broken.
fn holds_certificates(pem: &[u8]) -> bool {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.is_ok_and(|found| !found.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    // Of the right form, and of nobody.
    const CERTIFICATE_PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const KEY_PEM: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

    fn load(url: &str, files: &[(&str, Option<&str>)]) -> Result<RedisTls, String> {
        let folder = tempfile::tempdir().unwrap();
        let mut env = vec![("OVERSHOT_REDIS_URL".to_owned(), url.to_owned())];
        for (name, text) in files {
            let path = folder.path().join(name);
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            env.push(((*name).to_owned(), path.to_string_lossy().into_owned()));
        }
        Config::load(None, env).map(|config| config.redis_tls).map_err(|errors| errors.to_string())
    }

    #[test]
    fn authorities_and_an_identity_are_read_and_not_shown() {
        let files = [(AUTHORITIES, Some(CERTIFICATE_PEM)), (CERTIFICATE, Some(CERTIFICATE_PEM)), (KEY, Some(KEY_PEM))];
        for url in ["rediss://h", "rediss+cluster://h", "rediss+sentinel://h/main"] {
            let read = load(url, &files).unwrap();
            assert_eq!(read.authorities.as_deref(), Some(CERTIFICATE_PEM));
            assert_eq!(read.identity.as_ref().unwrap().1.expose(), KEY_PEM);
            assert!(!format!("{read:?}").contains("AAAA"), "{read:?}");
        }
        assert_eq!(load("redis://h", &[]).unwrap(), RedisTls::default());
    }

    #[test]
    fn every_mistake_names_its_variable() {
        let (good, bad) = (Some(CERTIFICATE_PEM), Some("hunter2"));
        for (url, files, said) in [
            ("rediss://h", &[(CERTIFICATE, good)][..], "OVERSHOT_REDIS_KEY_FILE: is missing"),
            ("rediss://h", &[(KEY, Some(KEY_PEM))], "OVERSHOT_REDIS_CERT_FILE: is missing"),
            ("rediss://h", &[(AUTHORITIES, bad)], "OVERSHOT_REDIS_CA_FILE: the file holds no certificate"),
            ("rediss://h", &[(CERTIFICATE, good), (KEY, good)], "OVERSHOT_REDIS_KEY_FILE: the file holds no private"),
            ("rediss://h", &[(AUTHORITIES, None)], "OVERSHOT_REDIS_CA_FILE: cannot be read"),
            ("redis://h", &[(AUTHORITIES, good)], "OVERSHOT_REDIS_CA_FILE: needs an OVERSHOT_REDIS_URL with TLS"),
            ("redis+cluster://h", &[(AUTHORITIES, good)], "OVERSHOT_REDIS_CA_FILE: needs"),
        ] {
            let told = load(url, files).unwrap_err();
            assert!(told.contains(said) && !told.contains("hunter2"), "{url} {files:?}: {told}");
        }
    }
}
