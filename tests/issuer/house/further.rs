//! Another issuing CA for a house, as a later ceremony leaves it.

use std::sync::Arc;

use chancery::id::Serial;
use chancery::pki::authority::FurtherIssuer;
use chancery::pki::certificate::Certificate;
use chancery::pki::rehearse::{Ca, CaTemplate};

use super::ca::seal;
use super::{House, SoftKey};
use chancery::env::Clock;

impl House {
    /// The newest issuing certificate of a line takes over at the next start; its certificate and key.
    pub(crate) fn add_issuer(&mut self, name: &str, line: &str) -> (Certificate, Arc<SoftKey>) {
        self.add_issuer_with(SoftKey::new(), name, line)
    }

    /// The same with this key.
    pub(crate) fn add_issuer_with(
        &mut self,
        key: Arc<SoftKey>,
        name: &str,
        line: &str,
    ) -> (Certificate, Arc<SoftKey>) {
        let texts = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect();
        let template = CaTemplate {
            common_name: format!("Test {name}"),
            organization: None,
            lifetime_days: 1000,
            path_length: Some(0),
            permitted_names: texts(&["lan", "internal", "home.arpa", "local", "test"]),
            permitted_networks: texts(&[
                "10.0.0.0/8",
                "172.16.0.0/12",
                "192.168.0.0/16",
                "fc00::/7",
            ]),
        };
        let mut random = [7; 16];
        random[0] = u8::try_from(self.further_keys.len()).unwrap();
        let ca = Ca {
            template: &template,
            key: &key.public,
            serial: Serial::from_random(random),
            now: self.clock.now(),
            issuer: Some(&self.root),
            aia_url: None,
            crl_url: Some("http://ca.lan/root.crl"),
        };
        let certificate = seal(&ca, &self.root_key);
        self.authority.further_issuers.push(FurtherIssuer {
            name: name.into(),
            line: line.into(),
            root: "root".into(),
            certificate: Some(certificate.pem()),
            key: key.record(),
            aia_url: format!("http://ca.lan/{name}.cer"),
            crl_url: format!("http://ca.lan/{name}.crl"),
            transcript_sha256: "04".repeat(32),
        });
        self.authority.version = self.authority.least_version();
        self.further_keys.insert(name.into(), Arc::clone(&key));
        (certificate, key)
    }
}
