//! Accounts (RFC 8555 sections 7.1.2 and 7.3).

mod key_change;

pub use key_change::KeyChange;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json::{self, Object};
use super::jws::{Jwk, Thumbprint};
use super::problem::{Problem, ProblemType};
use crate::id::{AccountId, Timestamp};
use crate::pki::name::DnsName;

/// The stored facts of an account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Account {
    pub id: AccountId,
    pub key: Jwk,
    /// Keys it had before a key change, oldest first (draft-ietf-acme-dns-persist needs them all).
    pub former_keys: Vec<Thumbprint>,
    pub contact: Vec<String>,
    /// What it agreed to last.
    pub terms: Option<Agreement>,
    pub created: Timestamp,
    pub deactivated: Option<Timestamp>,
    pub revoked: Option<Timestamp>,
    /// The verified externalAccountBinding, as the client sent it (JSON).
    pub external_account: Option<String>,
}

/// An account's agreement to terms of service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Agreement {
    pub at: Timestamp,
    /// The URL of the terms that were in force; empty where there were none.
    pub terms: String,
}

/// RFC 8555 section 7.1.6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccountStatus {
    Valid,
    Deactivated,
    Revoked,
}

/// A parsed newAccount payload (RFC 8555 section 7.3). Unknown members are ignored.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewAccount {
    pub contact: Vec<String>,
    pub terms_of_service_agreed: bool,
    pub only_return_existing: bool,
    /// The flattened JWS of `externalAccountBinding`, as JSON.
    pub external_account_binding: Option<String>,
}

/// A parsed payload of a POST to an account URL (RFC 8555 sections 7.3.2 and 7.3.6).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AccountUpdate {
    /// The contacts from now on, if they change.
    pub contact: Option<Vec<String>>,
    pub deactivate: bool,
    /// Whether the terms in force are agreed to: how a client agrees anew when they changed.
    pub agree: bool,
}

impl NewAccount {
    /// Parses and checks contacts: `mailto` with one address and no hfields.
    pub fn parse(payload: &[u8]) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Members {
            #[serde(default)]
            contact: Option<Vec<String>>,
            #[serde(default)]
            terms_of_service_agreed: Option<bool>,
            #[serde(default)]
            only_return_existing: Option<bool>,
            #[serde(default)]
            external_account_binding: Option<Object<FlattenedMembers>>,
        }

        let members: Members = json::object(payload)
            .map_err(|_| Problem::malformed("the payload is not a newAccount object"))?;
        let contact = members.contact.unwrap_or_default();
        check_contacts(&contact)?;
        Ok(Self {
            contact,
            terms_of_service_agreed: members.terms_of_service_agreed.unwrap_or(false),
            only_return_existing: members.only_return_existing.unwrap_or(false),
            external_account_binding: members
                .external_account_binding
                .map(|Object(binding)| json::text(&binding)),
        })
    }
}

impl AccountUpdate {
    /// Parses; members that cannot be updated are ignored. The one status a client may ask for is
    /// `deactivated`.
    pub fn parse(payload: &[u8]) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Members {
            #[serde(default)]
            contact: Option<Vec<String>>,
            #[serde(default)]
            status: Option<String>,
            #[serde(default)]
            terms_of_service_agreed: Option<bool>,
        }

        let members: Members = json::object(payload)
            .map_err(|_| Problem::malformed("the payload is not an account object"))?;
        check_contacts(members.contact.as_deref().unwrap_or_default())?;
        let deactivate = match members.status.as_deref() {
            Some("deactivated") => true,
            None | Some("valid") => false,
            Some(_) => return Err(Problem::malformed("status can only become deactivated")),
        };
        let agree = members.terms_of_service_agreed.unwrap_or(false);
        Ok(Self { contact: members.contact, deactivate, agree })
    }
}

impl Account {
    /// The account that a newAccount request makes once its terms were accepted. Its binding is not
    /// believed here: set `external_account` when the issuer has verified it. `terms` is the URL of those in force.
    pub fn new(
        id: AccountId,
        key: Jwk,
        request: NewAccount,
        terms: Option<&str>,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            key,
            former_keys: Vec::new(),
            contact: request.contact,
            terms: request.terms_of_service_agreed.then(|| Agreement::now(terms, now)),
            created: now,
            deactivated: None,
            revoked: None,
            external_account: None,
        }
    }

    /// Final states never end.
    pub fn status(&self) -> AccountStatus {
        match (self.revoked, self.deactivated) {
            (Some(_), _) => AccountStatus::Revoked,
            (None, Some(_)) => AccountStatus::Deactivated,
            (None, None) => AccountStatus::Valid,
        }
    }

    /// Whether it may ask for anything.
    pub fn is_active(&self) -> bool {
        self.status() == AccountStatus::Valid
    }

    /// 401 `unauthorized` unless active (RFC 8555 section 7.3.6).
    pub fn check_active(&self) -> Result<(), Problem> {
        if self.is_active() {
            return Ok(());
        }
        let detail = format!("this account is {}", self.status().name());
        Err(Problem::new(ProblemType::Unauthorized, detail).with_status(401))
    }

    /// Whether it agreed to these terms, the ones in force.
    pub fn agrees_to(&self, terms: &str) -> bool {
        self.terms.as_ref().is_some_and(|agreement| agreement.terms == terms)
    }

    /// 403 `userActionRequired` where the terms changed since it agreed (RFC 8555 section 7.3.3); `instance` is
    /// where a person reads what to do. The Link header to the terms is the flow's to add.
    pub fn check_terms(&self, terms: Option<&str>, instance: &str) -> Result<(), Problem> {
        if terms.is_none_or(|terms| self.agrees_to(terms)) {
            return Ok(());
        }
        let mut problem = Problem::new(
            ProblemType::UserActionRequired,
            "the terms of service have changed; agree to them before you go on",
        );
        problem.instance = Some(instance.to_owned());
        Err(problem)
    }

    /// Applies an update; `terms` is the URL of those in force.
    pub fn update(&mut self, update: AccountUpdate, terms: Option<&str>, now: Timestamp) {
        if let Some(contact) = update.contact {
            self.contact = contact;
        }
        if update.agree && !self.agrees_to(terms.unwrap_or_default()) {
            self.terms = Some(Agreement::now(terms, now));
        }
        if update.deactivate && self.deactivated.is_none() {
            self.deactivated = Some(now);
        }
    }

    /// Changes the key (RFC 8555 section 7.3.5); the old one is remembered.
    pub fn change_key(&mut self, key: Jwk) {
        let former = std::mem::replace(&mut self.key, key).thumbprint();
        self.former_keys.push(former);
    }

    /// The account object; `orders` is the URL of its order list.
    pub fn to_json(&self, orders: &str) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct AccountObject<'a> {
            status: &'static str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            contact: &'a [String],
            #[serde(skip_serializing_if = "Option::is_none")]
            terms_of_service_agreed: Option<bool>,
            #[serde(skip_serializing_if = "Option::is_none")]
            external_account_binding: Option<Value>,
            orders: &'a str,
        }

        json::text(&AccountObject {
            status: self.status().name(),
            contact: &self.contact,
            terms_of_service_agreed: self.terms.as_ref().map(|_| true),
            // What `NewAccount::parse` let in is an object.
            external_account_binding: self
                .external_account
                .as_deref()
                .and_then(|text| serde_json::from_str(text).ok()),
            orders,
        })
    }
}

impl Agreement {
    fn now(terms: Option<&str>, at: Timestamp) -> Self {
        Self { at, terms: terms.unwrap_or_default().to_owned() }
    }
}

impl AccountStatus {
    /// The word of RFC 8555.
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Deactivated => "deactivated",
            Self::Revoked => "revoked",
        }
    }
}

/// A flattened JWS that is a member of another object, kept as it came.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FlattenedMembers {
    protected: String,
    payload: String,
    signature: String,
}

const MAX_CONTACTS: usize = 10;
const MAX_CONTACT: usize = 320;

/// RFC 8555 section 7.3: support `mailto`, refuse hfields and more than one address.
fn check_contacts(contacts: &[String]) -> Result<(), Problem> {
    let invalid = |why: &str| Problem::new(ProblemType::InvalidContact, why);
    if contacts.len() > MAX_CONTACTS {
        return Err(invalid("more than 10 contacts"));
    }
    for contact in contacts {
        if contact.len() > MAX_CONTACT {
            return Err(invalid("a contact is too long"));
        }
        let (scheme, address) = contact.split_once(':').unwrap_or(("", contact));
        if !scheme.eq_ignore_ascii_case("mailto") {
            return Err(Problem::new(
                ProblemType::UnsupportedContact,
                "only mailto: contacts are supported",
            ));
        }
        let plain = |c: char| c.is_ascii_graphic() && !",?&#\"<>()[]\\;:".contains(c);
        let good = match address.split_once('@') {
            Some((local, domain)) => {
                !local.is_empty()
                    && local.chars().all(plain)
                    && DnsName::parse(domain).is_ok_and(|name| !name.is_wildcard())
            }
            None => false,
        };
        if !good {
            return Err(invalid("a mailto contact holds exactly one address and nothing after it"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn key(octet: &str) -> Jwk {
        // RFC 8037's key, or RFC 7515's.
        Jwk::parse(
            match octet {
                "a" => r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
                _ => r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
            }
            .as_bytes(),
        )
        .unwrap()
    }

    fn kind(result: Result<NewAccount, Problem>) -> ProblemType {
        result.unwrap_err().kind
    }

    #[test]
    fn new_account_payloads() {
        let parsed = NewAccount::parse(
            br#"{"termsOfServiceAgreed":true,"contact":["mailto:ops@example.lan"],"x":[1],
                "externalAccountBinding":{"protected":"YQ","payload":"Yg","signature":"Yw"}}"#,
        )
        .unwrap();
        assert_eq!(
            parsed,
            NewAccount {
                contact: vec!["mailto:ops@example.lan".into()],
                terms_of_service_agreed: true,
                only_return_existing: false,
                external_account_binding: Some(
                    r#"{"protected":"YQ","payload":"Yg","signature":"Yw"}"#.into()
                ),
            }
        );
        assert_eq!(NewAccount::parse(b"{}"), Ok(NewAccount::default()));
        assert_eq!(NewAccount::parse(br#"{"contact":null}"#), Ok(NewAccount::default()));
        for bad in [
            "",
            "[]",
            "null",
            r#"[["mailto:a@b"]]"#,
            r#"{"contact":"mailto:a@b.lan"}"#,
            r#"{"termsOfServiceAgreed":"yes"}"#,
            r#"{"externalAccountBinding":[]}"#,
            r#"{"externalAccountBinding":["YQ","Yg","Yw"]}"#,
            r#"{"externalAccountBinding":{"protected":"YQ","payload":"Yg","signature":"Yw","header":{}}}"#,
        ] {
            assert_eq!(kind(NewAccount::parse(bad.as_bytes())), ProblemType::Malformed, "{bad}");
        }
    }

    #[test]
    fn contacts() {
        let parse =
            |contact: &str| NewAccount::parse(json!({"contact": [contact]}).to_string().as_bytes());
        for good in ["mailto:a@b", "MAILTO:first.last+tag@sub.example.lan"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for unsupported in ["tel:+123", "a@b", "", "https://a@b"] {
            assert_eq!(kind(parse(unsupported)), ProblemType::UnsupportedContact, "{unsupported}");
        }
        for invalid in [
            "mailto:",
            "mailto:a",
            "mailto:@b",
            "mailto:a@",
            "mailto:a@b,c@d",
            "mailto:a@b?subject=x",
            "mailto:a@b@c",
            "mailto:a b@c",
            "mailto:a@*.b",
            "mailto:ä@b",
        ] {
            assert_eq!(kind(parse(invalid)), ProblemType::InvalidContact, "{invalid}");
        }
        let many = json!({"contact": vec!["mailto:a@b"; 11]}).to_string();
        assert_eq!(kind(NewAccount::parse(many.as_bytes())), ProblemType::InvalidContact);
    }

    #[test]
    fn an_account_object() {
        let request = NewAccount {
            contact: vec!["mailto:a@b".into()],
            terms_of_service_agreed: true,
            external_account_binding: Some(r#"{"payload":"unverified"}"#.into()),
            ..NewAccount::default()
        };
        let mut account = Account::new(AccountId([1; 16]), key("a"), request, None, Timestamp(5));
        assert_eq!(account.external_account, None);
        account.external_account = Some(r#"{"payload":"Yg"}"#.into());
        let object: Value = serde_json::from_str(&account.to_json("https://ca/o")).unwrap();
        assert_eq!(
            object,
            json!({
                "status": "valid",
                "contact": ["mailto:a@b"],
                "termsOfServiceAgreed": true,
                "externalAccountBinding": {"payload": "Yg"},
                "orders": "https://ca/o",
            })
        );
        let end = AccountUpdate::parse(br#"{"status":"deactivated"}"#).unwrap();
        account.update(end.clone(), None, Timestamp(6));
        account.update(end, None, Timestamp(7));
        assert_eq!(account.deactivated, Some(Timestamp(6)));
        assert_eq!(account.check_active().unwrap_err().status, 401);
        account.revoked = Some(Timestamp(8));
        assert!(account.to_json("").contains("revoked"));
    }

    #[test]
    fn updates() {
        assert!(AccountUpdate::parse(br#"{"status":"revoked"}"#).is_err());
        assert_eq!(AccountUpdate::parse(br#"{"orders":"x"}"#), Ok(AccountUpdate::default()));
        let mut account =
            Account::new(AccountId([1; 16]), key("a"), NewAccount::default(), None, Timestamp(5));
        let contact = AccountUpdate::parse(br#"{"contact":["mailto:a@b"]}"#).unwrap();
        account.update(contact, None, Timestamp(6));
        assert_eq!(account.contact, ["mailto:a@b"]);
        account.change_key(key("b"));
        assert_eq!(account.key, key("b"));
        assert_eq!(account.former_keys, [key("a").thumbprint()]);
    }

    #[test]
    fn terms_that_change_are_agreed_to_anew() {
        let request = NewAccount { terms_of_service_agreed: true, ..NewAccount::default() };
        let first = Some("https://ca/terms/1");
        let mut account = Account::new(AccountId([1; 16]), key("a"), request, first, Timestamp(5));
        let check = |account: &Account, terms| account.check_terms(terms, "https://ca/");
        assert_eq!(check(&account, first), Ok(()));
        assert_eq!(check(&account, None), Ok(()), "nothing to agree to");
        let second = Some("https://ca/terms/2");
        let problem = check(&account, second).unwrap_err();
        assert_eq!((problem.kind, problem.status), (ProblemType::UserActionRequired, 403));
        assert_eq!(problem.instance.as_deref(), Some("https://ca/"));
        let agree = AccountUpdate::parse(br#"{"termsOfServiceAgreed":true}"#).unwrap();
        let not = AccountUpdate::parse(br#"{"termsOfServiceAgreed":false}"#).unwrap();
        account.update(not, second, Timestamp(6));
        assert!(check(&account, second).is_err());
        account.update(agree.clone(), second, Timestamp(7));
        assert_eq!(check(&account, second), Ok(()));
        account.update(agree, second, Timestamp(8));
        assert_eq!(account.terms.as_ref().map(|agreed| agreed.at), Some(Timestamp(7)));
        assert!(check(&account, first).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(payload in "\\PC{0,80}") {
            let _ = NewAccount::parse(payload.as_bytes());
            let _ = AccountUpdate::parse(payload.as_bytes());
        }
    }
}
