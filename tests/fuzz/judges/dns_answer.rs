//! What DNS says: a datagram of multicast DNS, and the value of a CAA property or of a record of dns-persist-01.

use chancery::acme::challenge::ChallengeType;
use chancery::acme::challenge::persist::{self, PersistTerms};
use chancery::acme::issue_value::IssueValue;
use chancery::acme::jws::Thumbprint;
use chancery::env::net::CaaRecord;
use chancery::env::system::net::mdns;
use chancery::id::Timestamp;
use chancery::pki::name::{DnsName, Identifier};
use chancery::validate::CaaQuestion;
use chancery::validate::caa;

const PREFIX: &str = "https://ca.example/account-hash/";

/// True if something could be read in it.
pub(crate) fn judge(data: &[u8]) -> bool {
    let addresses = mdns::parse(data, 7, "printer.local");
    if let Some(addresses) = &addresses {
        assert!(!addresses.is_empty() && addresses.len() <= 32);
        assert_eq!(mdns::parse(data, 8, "printer.local"), None, "an answer to another question");
    }
    let value = IssueValue::parse(data);
    if let Ok(value) = &value {
        let mut again = value.issuer.clone().unwrap_or_default();
        for (tag, content) in &value.parameters {
            again.push_str(&format!("; {tag}={content}"));
        }
        assert_eq!(IssueValue::parse(again.as_bytes()).as_ref(), Ok(value));
    }
    let property = CaaRecord { critical: true, tag: "issue".to_owned(), value: data.to_vec() };
    let question = CaaQuestion {
        identifier: Identifier::parse("dns", "a.lan").unwrap(),
        wildcard: false,
        account_url: "https://ca.lan/acme/acct/7".to_owned(),
        method: Some(ChallengeType::Dns01),
    };
    if caa::judge(&[property], &["ca.lan".to_owned()], &question).is_ok() {
        assert_eq!(value.as_ref().ok().and_then(|v| v.issuer.as_deref()), Some("ca.lan"));
    }
    let thumbprint = Thumbprint([7; 32]);
    let domain = DnsName::parse("example.com").unwrap();
    let terms = PersistTerms {
        issuers: &["authority.example".to_owned()],
        prefix: PREFIX,
        domain: &domain,
        wide: false,
        account_url: "https://ca.example/acct/123",
        thumbprints: &[thumbprint],
        now: Timestamp(1_795_305_599_000),
    };
    // No mutation finds a hash: nothing here is of this account.
    let problem = persist::judge(&[data.to_vec()], &terms).unwrap_err();
    assert!(!problem.detail.contains("account-hash"), "{}", problem.detail);
    addresses.is_some() || value.is_ok()
}
