//! Certificates of a test's own.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// An authority (`ca.pem`), and what it has signed: for a server on 127.0.0.1 (`server.pem`, `server.key`), and for the fleet
/// (`fleet.pem`, `fleet.key`).
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes all of them.
    #[expect(clippy::new_without_default, reason = "there is no usual one: each is another")]
    pub fn new() -> Self {
        let made = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let write = |name: &str, text: String| std::fs::write(made.path(name), text).expect("the folder is ours");
        let key = || KeyPair::generate().expect("a key");
        let own = key();
        let mut authority = CertificateParams::new(Vec::new()).expect("no names are good names");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Under the same name as what it signs, each of those would be taken for signed by itself.
        authority.distinguished_name.push(DnType::CommonName, "authority");
        write("ca.pem", authority.self_signed(&own).expect("it signs itself").pem());
        let authority = Issuer::new(authority, own);
        for (name, whom) in [("server", "127.0.0.1"), ("fleet", "fleet")] {
            let key = key();
            let wanted = CertificateParams::new(vec![whom.to_owned()]).expect("a good name");
            write(&format!("{name}.pem"), wanted.signed_by(&key, &authority).expect("the authority signs").pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        made
    }

    /// Where one of them is.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    /// What makes a Redis, or a Sentinel, speak TLS and nothing else, and want it of all others: the settings of its
    /// configuration.
    pub(crate) fn settings(&self, wants_certificates_of_clients: bool) -> Vec<(&'static str, String)> {
        let wanted = if wants_certificates_of_clients { "yes" } else { "no" };
        vec![
            ("tls-cert-file", self.path("server.pem")),
            ("tls-key-file", self.path("server.key")),
            ("tls-ca-cert-file", self.path("ca.pem")),
            ("tls-auth-clients", wanted.to_owned()),
            ("tls-replication", "yes".to_owned()),
            ("tls-cluster", "yes".to_owned()),
        ]
    }
}
