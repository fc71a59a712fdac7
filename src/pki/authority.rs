//! What a ceremony fixed for good: the certificates, the keys by name and public key, the log's origin
//! and the URLs that certificates carry. Written by `ceremony` as `ca/authority.json`, read by `config`.

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use super::key::{PublicKey, SignatureAlgorithm};
use super::uri::Pkcs11Uri;

/// A key on a token and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// RFC 7512 URI with token label, serial and CKA_ID; never a PIN.
    pub uri: String,
    /// SubjectPublicKeyInfo, base64.
    pub spki: String,
    /// What an RSA key signs with, where the ceremony chose: one of [`SignatureAlgorithm::CHOICES`]. A program that
    /// does not know of it refuses the file, and would sign otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

impl KeyRecord {
    /// The record of a key at `uri`, with what it signs with.
    pub fn new(uri: &Pkcs11Uri, key: &PublicKey) -> Self {
        let chosen = key.preferred_algorithm();
        let usual = chosen == key.kind().usual_algorithm();
        let signature = if usual { None } else { chosen.choice_name() };
        Self {
            uri: uri.to_string(),
            spki: Base64::encode_string(key.spki()),
            signature: signature.map(str::to_owned),
        }
    }

    /// The URI, parsed; or what of it makes no sense.
    pub fn parsed_uri(&self) -> Result<Pkcs11Uri, String> {
        Pkcs11Uri::parse(&self.uri).map_err(|why| why.to_string())
    }

    /// CKA_ID.
    pub fn id(&self) -> Result<Vec<u8>, String> {
        self.parsed_uri()?.id.ok_or_else(|| "its URI has no id".to_owned())
    }

    /// The SubjectPublicKeyInfo itself.
    pub fn spki_der(&self) -> Result<Vec<u8>, &'static str> {
        Base64::decode_vec(&self.spki).map_err(|_| "its spki is not base64")
    }

    /// The public key, which signs as recorded; or what of the record makes no sense.
    pub fn public_key(&self) -> Result<PublicKey, &'static str> {
        let spki = self.spki_der()?;
        let key = PublicKey::from_spki(&spki).map_err(|why| why.0)?;
        match &self.signature {
            None => Ok(key),
            Some(name) => SignatureAlgorithm::choice(name)
                .and_then(|algorithm| key.signing_with(algorithm))
                .ok_or("its signature algorithm is none of this key"),
        }
    }
}

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Version of this format: the least that can say it, see [`Authority::least_version`].
    pub version: u32,
    /// The log's origin: a schema-less URL.
    pub origin: String,
    /// `http://` URL of the issuing certificate in DER.
    pub aia_url: String,
    /// `http://` URL of the issuing CA's CRL.
    pub crl_url: String,
    /// `http://` URL of the root's CRL.
    pub root_crl_url: String,
    /// PEM.
    pub root: String,
    /// PEM; absent between the export of a request and the import of its certificate.
    pub issuing: Option<String>,
    /// Absent where the root key lives elsewhere.
    pub root_key: Option<KeyRecord>,
    pub issuing_key: KeyRecord,
    /// The key the log began with.
    pub log_key: KeyRecord,
    pub tls_key: KeyRecord,
    /// SHA-256 over the transcript, hex.
    pub transcript_sha256: String,
    /// What this box cosigns other logs with, once a ceremony has made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<WitnessRecord>,
    /// What became of the log key, oldest first. A program that does not know of it would sign with the wrong key, so
    /// it is part of version 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_key_rotations: Vec<LogKeyRotation>,
    /// Issuing CAs that later ceremonies made, oldest first; version 3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_issuers: Vec<FurtherIssuer>,
    /// Roots that later ceremonies made, oldest first; version 3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_roots: Vec<FurtherRoot>,
    /// The names of the roots and issuing CAs that are done with: their keys need not be on a token; version 3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<String>,
    /// The TLS key before the present one; version 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_tls: Option<FormerTlsKey>,
    /// The TLS keys before that, oldest first: done with, and perhaps still on the token; version 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub older_tls: Vec<KeyRecord>,
    /// The logs that this one goes on for, oldest first: a restore could not show that they were whole; version 6.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_logs: Vec<FormerLog>,
}

/// A log that ended, and another goes on with its leaves under another origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormerLog {
    pub origin: String,
    /// Every key it had, oldest first, never none; the last is the one that the next log began with.
    pub keys: Vec<KeyRecord>,
}

/// A TLS key that another took over from. Which certificate is served, and so which of the two signs handshakes, the
/// issuer decides: the former's, until there is one for the new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormerTlsKey {
    pub key: KeyRecord,
    /// It signs no more, and need not be on the token.
    pub done: bool,
}

/// A witness's key and its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessRecord {
    /// A schema-less URL, for good: it is in every cosignature.
    pub name: String,
    pub key: KeyRecord,
}

/// A log key that took over from the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogKeyRotation {
    pub key: KeyRecord,
    /// What the former key and the new one make of the statement that names both, base64.
    pub endorsement: String,
    pub possession: String,
    /// For how long both sign.
    pub cross_over_days: u32,
    /// SHA-256 over the transcript of its ceremony, hex.
    pub transcript_sha256: String,
    /// The former key signs no more, and need not be on the token.
    pub former_done: bool,
}

/// An issuing CA that came after the ceremony's own: it takes over from the one before it in its line, or begins one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FurtherIssuer {
    /// What this box calls it: its key, its files, its records.
    pub name: String,
    /// Of each line only the newest issues. Profiles name lines.
    pub line: String,
    /// The name of its root.
    pub root: String,
    /// PEM; absent between the export of its request and the import of its certificate: until then the one before it issues.
    pub certificate: Option<String>,
    pub key: KeyRecord,
    /// As for the first.
    pub aia_url: String,
    pub crl_url: String,
    /// SHA-256 over the transcript, hex.
    pub transcript_sha256: String,
}

/// A root that took over from the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FurtherRoot {
    /// What this box calls it: its files, its records.
    pub name: String,
    /// PEM.
    pub certificate: String,
    /// Absent where the key lives elsewhere.
    pub key: Option<KeyRecord>,
    /// `http://` URL of its CRL.
    pub crl_url: String,
    /// PEM: its name and key, certified by the root before it.
    pub by_former: String,
    /// PEM: name and key of the root before it, certified by it.
    pub of_former: String,
    /// SHA-256 over the transcript, hex.
    pub transcript_sha256: String,
}

/// Any issuing CA, the ceremony's own among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issuing<'a> {
    pub name: &'a str,
    pub line: &'a str,
    pub root: &'a str,
    /// PEM.
    pub certificate: Option<&'a str>,
    pub key: &'a KeyRecord,
    pub aia_url: &'a str,
    pub crl_url: &'a str,
    pub transcript_sha256: &'a str,
    /// Signs nothing any more; its key need not be on the token.
    pub done: bool,
}

/// Any root, the ceremony's own among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root<'a> {
    pub name: &'a str,
    /// PEM.
    pub certificate: &'a str,
    pub key: Option<&'a KeyRecord>,
    pub crl_url: &'a str,
    /// The cross-certificates of its ceremony, PEM: by the root before it, and of that.
    pub cross: Option<(&'a str, &'a str)>,
    pub transcript_sha256: &'a str,
    /// No certificate below it is valid any more, and devices need not trust it.
    pub done: bool,
}

impl Authority {
    /// What the ceremony's own root and issuing CA are called, and the line that the latter begins.
    pub const FIRST_ROOT: &str = "root";
    pub const FIRST_ISSUING: &str = "issuing";

    /// Every issuing CA there was, oldest first.
    pub fn issuers(&self) -> impl Iterator<Item = Issuing<'_>> {
        let first = Issuing {
            name: Self::FIRST_ISSUING,
            line: Self::FIRST_ISSUING,
            root: Self::FIRST_ROOT,
            certificate: self.issuing.as_deref(),
            key: &self.issuing_key,
            aia_url: &self.aia_url,
            crl_url: &self.crl_url,
            transcript_sha256: &self.transcript_sha256,
            done: self.is_done(Self::FIRST_ISSUING),
        };
        std::iter::once(first).chain(self.further_issuers.iter().map(|further| Issuing {
            name: &further.name,
            line: &further.line,
            root: &further.root,
            certificate: further.certificate.as_deref(),
            key: &further.key,
            aia_url: &further.aia_url,
            crl_url: &further.crl_url,
            transcript_sha256: &further.transcript_sha256,
            done: self.is_done(&further.name),
        }))
    }

    /// The newest issuing CA of a line that has its certificate.
    pub fn newest_of(&self, line: &str) -> Option<Issuing<'_>> {
        self.issuers()
            .filter(|issuing| issuing.line == line && issuing.certificate.is_some())
            .last()
    }

    /// Every root there was, oldest first.
    pub fn roots(&self) -> impl Iterator<Item = Root<'_>> {
        let first = Root {
            name: Self::FIRST_ROOT,
            certificate: &self.root,
            key: self.root_key.as_ref(),
            crl_url: &self.root_crl_url,
            cross: None,
            transcript_sha256: &self.transcript_sha256,
            done: self.is_done(Self::FIRST_ROOT),
        };
        std::iter::once(first).chain(self.further_roots.iter().map(|further| Root {
            name: &further.name,
            certificate: &further.certificate,
            key: further.key.as_ref(),
            crl_url: &further.crl_url,
            cross: Some((&further.by_former, &further.of_former)),
            transcript_sha256: &further.transcript_sha256,
            done: self.is_done(&further.name),
        }))
    }

    fn is_done(&self, name: &str) -> bool {
        self.done.iter().any(|done| done == name)
    }

    /// The oldest form that can say it, so that a release before this one reads it as long as it can do what it says.
    pub fn least_version(&self) -> u32 {
        let Self { further_issuers, further_roots, done, log_key_rotations, .. } = self;
        if !self.former_logs.is_empty() {
            6
        } else if !self.older_tls.is_empty() {
            5
        } else if self.former_tls.is_some() {
            4
        } else if !further_issuers.is_empty() || !further_roots.is_empty() || !done.is_empty() {
            3
        } else if !log_key_rotations.is_empty() {
            2
        } else {
            1
        }
    }

    /// Every key that it names.
    pub fn keys(&self) -> impl Iterator<Item = &KeyRecord> {
        let witness = self.witness.as_ref().map(|witness| &witness.key);
        let roots = self.roots().filter_map(|root| root.key);
        let issuers = self.issuers().map(|issuing| issuing.key);
        let tls = self.former_tls.iter().map(|former| &former.key).chain([&self.tls_key]);
        let tls = self.older_tls.iter().chain(tls);
        roots.chain(issuers).chain(tls).chain(self.log_keys_ever()).chain(witness)
    }

    /// The keys that have to be on a token: without those that are done with.
    pub fn keys_in_use(&self) -> impl Iterator<Item = &KeyRecord> {
        let witness = self.witness.as_ref().map(|witness| &witness.key);
        let roots = self.roots().filter(|root| !root.done).filter_map(|root| root.key);
        let issuers = self.issuers().filter(|issuing| !issuing.done).map(|issuing| issuing.key);
        let tls = [Some(&self.tls_key), self.former_tls_key()].into_iter().flatten();
        let log = [Some(self.newest_log_key()), self.former_log_key()].into_iter().flatten();
        issuers.chain(log).chain(tls).chain(witness).chain(roots)
    }

    /// Takes a new TLS key; the present one is the former from now on, and what was the former is remembered: it may
    /// still be on the token.
    pub fn rotate_tls_key(&mut self, key: KeyRecord) {
        let present = std::mem::replace(&mut self.tls_key, key);
        let former = self.former_tls.replace(FormerTlsKey { key: present, done: false });
        self.older_tls.extend(former.map(|former| former.key));
    }

    /// The TLS key before the present one, while it may have to sign.
    pub fn former_tls_key(&self) -> Option<&KeyRecord> {
        self.former_tls.as_ref().filter(|former| !former.done).map(|former| &former.key)
    }

    /// The newest log key.
    pub fn newest_log_key(&self) -> &KeyRecord {
        self.log_key_rotations.last().map_or(&self.log_key, |rotation| &rotation.key)
    }

    /// The log key before it, while it may have to sign.
    pub fn former_log_key(&self) -> Option<&KeyRecord> {
        let (last, before) = self.log_key_rotations.split_last()?;
        let former = before.last().map_or(&self.log_key, |rotation| &rotation.key);
        (!last.former_done).then_some(former)
    }

    /// Every log key there was, oldest first.
    pub fn log_keys(&self) -> impl Iterator<Item = &KeyRecord> {
        [&self.log_key].into_iter().chain(self.log_key_rotations.iter().map(|r| &r.key))
    }

    /// Those and the keys of the logs before it, oldest first, each once.
    pub fn log_keys_ever(&self) -> impl Iterator<Item = &KeyRecord> {
        let before = self.former_logs.iter().filter_map(|log| log.keys.split_last());
        before.flat_map(|(_, before)| before).chain(self.log_keys())
    }

    /// The origins that this CA's log has had, oldest first, each with the keys that signed under it.
    pub fn logs(&self) -> impl Iterator<Item = (&str, Vec<&KeyRecord>)> {
        let former = self.former_logs.iter();
        former
            .map(|log| (log.origin.as_str(), log.keys.iter().collect()))
            .chain([(self.origin.as_str(), self.log_keys().collect())])
    }

    /// Another log goes on for this one: it begins with the newest key, and its records tell of no rotation before.
    /// Without `remember` the file stays one that a release can read which knows nothing of former logs.
    pub fn begin_log(&mut self, origin: &str, remember: bool) {
        let keys: Vec<KeyRecord> = self.log_keys().cloned().collect();
        self.log_key = self.newest_log_key().clone();
        self.log_key_rotations.clear();
        let origin = std::mem::replace(&mut self.origin, origin.to_owned());
        if remember {
            self.former_logs.push(FormerLog { origin, keys });
        }
        self.version = self.least_version();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> KeyRecord {
        KeyRecord { uri: format!("pkcs11:object={name}"), spki: String::new(), signature: None }
    }

    fn first() -> Authority {
        Authority {
            version: 1,
            origin: "ca.lan/log".into(),
            aia_url: "http://ca.lan/issuing.cer".into(),
            crl_url: "http://ca.lan/crl/issuing.crl".into(),
            root_crl_url: "http://ca.lan/crl/root.crl".into(),
            root: "ROOT".into(),
            issuing: Some("ISSUING".into()),
            root_key: Some(key("root")),
            issuing_key: key("issuing"),
            log_key: key("log"),
            tls_key: key("tls"),
            transcript_sha256: "03".repeat(32),
            witness: None,
            log_key_rotations: Vec::new(),
            further_issuers: Vec::new(),
            further_roots: Vec::new(),
            done: Vec::new(),
            former_tls: None,
            older_tls: Vec::new(),
            former_logs: Vec::new(),
        }
    }

    fn second(certificate: Option<&str>) -> FurtherIssuer {
        FurtherIssuer {
            name: "issuing-2".into(),
            line: "issuing".into(),
            root: "root".into(),
            certificate: certificate.map(str::to_owned),
            key: key("issuing-2"),
            aia_url: "http://ca.lan/issuing-2.cer".into(),
            crl_url: "http://ca.lan/crl/issuing-2.crl".into(),
            transcript_sha256: "04".repeat(32),
        }
    }

    #[test]
    fn the_file_of_a_first_ceremony_is_what_it_was() {
        let text = r#"{"version":1,"origin":"ca.lan/log","aia_url":"http://ca.lan/issuing.cer",
            "crl_url":"http://ca.lan/crl/issuing.crl","root_crl_url":"http://ca.lan/crl/root.crl","root":"ROOT",
            "issuing":"ISSUING","root_key":{"uri":"pkcs11:object=root","spki":""},
            "issuing_key":{"uri":"pkcs11:object=issuing","spki":""},"log_key":{"uri":"pkcs11:object=log","spki":""},
            "tls_key":{"uri":"pkcs11:object=tls","spki":""},
            "transcript_sha256":"0303030303030303030303030303030303030303030303030303030303030303"}"#;
        let read: Authority = serde_json::from_str(text).unwrap();
        assert_eq!(read, first());
        assert_eq!(read.least_version(), 1);
        let before: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), before);
        let later = Authority { version: 3, further_issuers: vec![second(None)], ..first() };
        let text = serde_json::to_string(&later).unwrap();
        assert_eq!(serde_json::from_str::<Authority>(&text).unwrap(), later);
        assert_eq!(later.least_version(), 3);
    }

    #[test]
    fn no_tls_key_is_forgotten() {
        let mut authority = first();
        let uris = |authority: &Authority| -> Vec<String> {
            authority.keys().map(|key| key.uri.clone()).filter(|uri| uri.contains("tls")).collect()
        };
        authority.rotate_tls_key(key("tls-2"));
        assert_eq!(authority.least_version(), 4);
        assert_eq!(authority.former_tls_key(), Some(&key("tls")));
        authority.former_tls = Some(FormerTlsKey { key: key("tls"), done: true });
        authority.rotate_tls_key(key("tls-3"));
        assert_eq!(authority.least_version(), 5);
        assert_eq!(authority.former_tls_key(), Some(&key("tls-2")));
        let all = ["pkcs11:object=tls", "pkcs11:object=tls-2", "pkcs11:object=tls-3"];
        assert_eq!(uris(&authority), all);
        assert!(!authority.keys_in_use().any(|record| *record == key("tls")));
        let text = serde_json::to_string(&authority).unwrap();
        assert_eq!(serde_json::from_str::<Authority>(&text).unwrap(), authority);
    }

    #[test]
    fn no_log_and_no_key_of_one_is_forgotten() {
        let rotation = |name: &str| LogKeyRotation {
            key: key(name),
            endorsement: String::new(),
            possession: String::new(),
            cross_over_days: 30,
            transcript_sha256: "05".repeat(32),
            former_done: false,
        };
        let mut authority = first();
        authority.log_key_rotations.push(rotation("log-2"));
        // In the middle of a cross-over, and then once more with nothing in between.
        let mut other = authority.clone();
        other.begin_log("ca.lan/log/r2", false);
        assert_eq!((other.version, other.newest_log_key()), (1, &key("log-2")));
        authority.begin_log("ca.lan/log/r2", true);
        assert_eq!((authority.version, authority.former_log_key()), (6, None));
        assert_eq!(authority.newest_log_key(), &key("log-2"));
        authority.begin_log("ca.lan/log/r3", true);
        authority.log_key_rotations.push(rotation("log-3"));
        let ever: Vec<&KeyRecord> = authority.log_keys_ever().collect();
        assert_eq!(ever, [&key("log"), &key("log-2"), &key("log-3")]);
        assert!(ever.iter().all(|key| authority.keys().filter(|other| other == key).count() == 1));
        assert!(!authority.keys_in_use().any(|record| *record == key("log")));
        let logs: Vec<(&str, usize)> =
            authority.logs().map(|(origin, keys)| (origin, keys.len())).collect();
        assert_eq!(logs, [("ca.lan/log", 2), ("ca.lan/log/r2", 1), ("ca.lan/log/r3", 2)]);
        let text = serde_json::to_string(&authority).unwrap();
        assert_eq!(serde_json::from_str::<Authority>(&text).unwrap(), authority);
    }

    #[test]
    fn of_each_line_the_newest_with_a_certificate_issues() {
        let name =
            |authority: &Authority, line| authority.newest_of(line).map(|i| i.name.to_owned());
        let mut authority = first();
        assert_eq!(name(&authority, "issuing").as_deref(), Some("issuing"));
        authority.further_issuers.push(second(None));
        assert_eq!(name(&authority, "issuing").as_deref(), Some("issuing"));
        authority.further_issuers = vec![
            second(Some("2")),
            FurtherIssuer { name: "pq".into(), line: "pq".into(), ..second(Some("3")) },
        ];
        assert_eq!(name(&authority, "issuing").as_deref(), Some("issuing-2"));
        assert_eq!(name(&authority, "pq").as_deref(), Some("pq"));
        assert_eq!(name(&authority, "other"), None);
        authority.done.push("issuing".into());
        let done: Vec<bool> = authority.issuers().map(|issuing| issuing.done).collect();
        assert_eq!(done, [true, false, false]);
        assert_eq!(authority.keys().count(), 6);
    }
}
