//! A record as a row, as JSON and at length: what list, show, export and the audit's report say of it.

use serde_json::{Map, Value};

use crate::id::{OrderId, Serial};
use crate::log::reader::Entry;
use crate::log::record::{
    Actor, ConfigChangedV1, PreviousEnd, Record, Requester, StartedV1, ValidationV1,
};
use crate::pki::certificate::Certificate;

/// What there is to say of an entry: one flat object, in the order in which it is shown.
pub struct Described {
    fields: Map<String, Value>,
    /// The last column of a row.
    gist: String,
}

impl Described {
    pub const HEADING: &str =
        "    LEAF  TIME                  KIND         SERIAL                            WHAT";

    pub fn of(entry: &Entry) -> Self {
        let mut fields = Map::new();
        let mut put = |key: &str, value: Value| {
            fields.insert(key.to_owned(), value);
        };
        put("leaf", entry.leaf.0.into());
        put("segment", entry.segment.as_str().into());
        put("octet", entry.octet.into());
        put("octets", entry.payload.len().into());
        let gist = match &entry.record {
            Err(why) => {
                put("kind", "unknown".into());
                put("bytes", hex(&entry.payload).into());
                why.to_string()
            }
            Ok(record) => {
                put("kind", record.kind().into());
                put("at", record.at().to_string().into());
                put("at_ms", record.at().0.into());
                record_fields(record, &mut put)
            }
        };
        Self { fields, gist }
    }

    /// One line of a table.
    pub fn row(&self) -> String {
        let text = |key: &str| self.fields.get(key).and_then(Value::as_str).unwrap_or("-");
        let leaf = self.fields.get("leaf").and_then(Value::as_u64).unwrap_or_default();
        format!(
            "{leaf:>8}  {:<20}  {:<11}  {:<32}  {}",
            text("at"),
            text("kind"),
            text("serial"),
            self.gist
        )
    }

    /// One JSON object on one line.
    pub fn json(&self) -> String {
        Value::Object(self.fields.clone()).to_string()
    }

    /// One field a line.
    pub fn long(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.fields {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.push_str(&format!("{key:<18} {value}\n"));
        }
        text
    }
}

fn record_fields(record: &Record, put: &mut dyn FnMut(&str, Value)) -> String {
    if let Some(serial) = serial(record) {
        put("serial", serial.to_string().into());
    }
    match record {
        Record::CeremonyV1(r) => {
            put("origin", r.origin.as_str().into());
            put("root_sha256", hex(&r.root_sha256).into());
            put("issuing_sha256", hex(&r.issuing_sha256).into());
            put("log_key", hex(&r.log_key).into());
            put("transcript_sha256", hex(&r.transcript_sha256).into());
            r.origin.clone()
        }
        Record::AccountRegisteredV1(r) => {
            put("account", r.account.to_string().into());
            put("jwk", r.jwk.as_str().into());
            r.account.to_string()
        }
        Record::IntentV1(r) => {
            match &r.requester {
                Requester::Own => put("requester", "own".into()),
                Requester::Order { order, account, jws_sha256 } => {
                    put("requester", "order".into());
                    put("order", order.to_string().into());
                    put("account", account.to_string().into());
                    put("jws_sha256", hex(jws_sha256).into());
                }
            }
            put("profile", r.profile.as_str().into());
            put("validations", validations(&r.validations));
            put("issuer_sha256", hex(&r.issuer_sha256).into());
            let names = names(&r.tbs);
            put("names", names.clone().into());
            put("tbs", hex(&r.tbs).into());
            names.join(" ")
        }
        Record::IssuedV1(r) => {
            put("intent", r.intent.0.into());
            put("algorithm", hex(&r.algorithm).into());
            put("signature", hex(&r.signature).into());
            format!("intent {}", r.intent)
        }
        Record::AbandonedV1(r) => {
            put("intent", r.intent.0.into());
            put("reason", r.reason.as_str().into());
            format!("intent {}: {}", r.intent, printable(&r.reason))
        }
        Record::CrlV1(r) => {
            put("issuer_sha256", hex(&r.issuer_sha256).into());
            put("number", r.number.into());
            put("this_update", r.this_update.to_string().into());
            put("next_update", r.next_update.to_string().into());
            put("entries", r.entries.into());
            put("tbs_sha256", hex(&r.tbs_sha256).into());
            format!("number {}, {} entries, until {}", r.number, r.entries, r.next_update)
        }
        Record::ClockAcceptedV1(r) => {
            put("floor", r.floor.to_string().into());
            format!("floor {}", r.floor)
        }
        Record::AccountRegisteredV2(r) => {
            put("account", r.account.to_string().into());
            put("jwk", r.jwk.as_str().into());
            put("ticket", r.ticket.as_deref().into());
            match &r.ticket {
                Some(ticket) => format!("{} by ticket {}", r.account, printable(ticket)),
                None => r.account.to_string(),
            }
        }
        Record::KeyChangedV1(r) => {
            put("account", r.account.to_string().into());
            put("jwk", r.jwk.as_str().into());
            put("former_sha256", hex(&r.former).into());
            put("jws_sha256", hex(&r.jws_sha256).into());
            r.account.to_string()
        }
        Record::AccountDeactivatedV1(r) => {
            put("account", r.account.to_string().into());
            let by = actor(&r.by, put);
            format!("{} by {by}", r.account)
        }
        Record::TicketMintedV1(r) => {
            put("ticket", r.ticket.as_str().into());
            put("uses", r.uses.into());
            put("expires", r.expires.to_string().into());
            put("constraints_sha256", hex(&r.constraints_sha256).into());
            let by = actor(&r.by, put);
            format!("{} for {} uses until {} by {by}", printable(&r.ticket), r.uses, r.expires)
        }
        Record::TicketRevokedV1(r) => {
            put("ticket", r.ticket.as_str().into());
            let by = actor(&r.by, put);
            format!("{} by {by}", printable(&r.ticket))
        }
        Record::RevokedV1(r) => {
            put("intent", r.intent.0.into());
            put("reason", r.reason.into());
            let by = actor(&r.by, put);
            put("validations", validations(&r.validations));
            put("crl", r.crl.as_deref().into());
            put("not_after", r.not_after.to_string().into());
            put("blocked_key", r.blocked_key.map(|key| hex(&key)).into());
            let reason =
                r.reason.map_or_else(|| "no reason given".into(), |r| format!("reason {r}"));
            format!("intent {}, by {by}, {reason}", r.intent)
        }
        Record::CrlV2(r) => {
            put("issuer_sha256", hex(&r.issuer_sha256).into());
            put("crl", r.crl.as_str().into());
            put("number", r.number.into());
            put("this_update", r.this_update.to_string().into());
            put("next_update", r.next_update.to_string().into());
            put("entries", r.entries.into());
            put("tbs_sha256", hex(&r.tbs_sha256).into());
            format!(
                "{} number {}, {} entries, until {}",
                printable(&r.crl),
                r.number,
                r.entries,
                r.next_update
            )
        }
        Record::RecallV1(r) => {
            put("profile", r.profile.as_deref().into());
            put("recalled_serial", r.serial.map(|serial| serial.to_string()).into());
            put("issued_from", r.issued_from.map(|at| at.to_string()).into());
            put("issued_until", r.issued_until.to_string().into());
            put("start", r.start.to_string().into());
            put("end", r.end.to_string().into());
            put("explanation", r.explanation.as_deref().into());
            let by = actor(&r.by, put);
            format!("to be replaced from {} to {}, by {by}", r.start, r.end)
        }
        Record::RecallEndedV1(r) => {
            put("recall", r.recall.0.into());
            let by = actor(&r.by, put);
            format!("recall {} by {by}", r.recall)
        }
        Record::LogKeyRotatedV1(r) => {
            put("former", hex(&r.former).into());
            put("key", hex(&r.key).into());
            put("endorsement", hex(&r.endorsement).into());
            put("possession", hex(&r.possession).into());
            put("until", r.until.to_string().into());
            put("transcript_sha256", hex(&r.transcript_sha256).into());
            format!("another log key; the former signs too until about {}", r.until)
        }
        Record::LogKeyRetiredV1(r) => {
            put("key", hex(&r.key).into());
            match &r.by {
                Some(by) => format!("the former log key signs no more, by {}", actor(by, put)),
                None => "the former log key signs no more: its time was over".into(),
            }
        }
        Record::StartedV1(r) => started(r, put),
        Record::ConfigChangedV1(r) => config_changed(r, put),
        Record::RefusedV1(r) => {
            put("from", r.from.to_string().into());
            put("until", r.until.to_string().into());
            let rows: Vec<Value> = r
                .refusals
                .iter()
                .map(|refusal| {
                    serde_json::json!({
                        "asked": refusal.asked,
                        "why": refusal.why,
                        "account": refusal.account.map(|account| account.to_string()),
                        "count": refusal.count,
                    })
                })
                .collect();
            put("refusals", rows.into());
            let gist: Vec<String> = r
                .refusals
                .iter()
                .map(|refusal| {
                    let who = refusal.account.map(|a| format!(" by {a}")).unwrap_or_default();
                    printable(&format!(
                        "{} × {} {}{who}",
                        refusal.count, refusal.asked, refusal.why
                    ))
                })
                .collect();
            format!("since {}: {}", r.from, gist.join(", "))
        }
    }
}

fn started(r: &StartedV1, put: &mut dyn FnMut(&str, Value)) -> String {
    put("version", r.version.as_str().into());
    put("built", r.built.to_string().into());
    put("program_sha256", r.program_sha256.map(|sha256| hex(&sha256)).into());
    put("config_sha256", hex(&r.config_sha256).into());
    let token = r.token.as_ref().map(|token| {
        serde_json::json!({
            "label": token.label,
            "manufacturer": token.manufacturer,
            "model": token.model,
            "serial": token.serial,
            "firmware": token.firmware,
            "module": token.module,
            "module_version": token.module_version,
        })
    });
    put("token", token.into());
    let previous = match r.previous {
        PreviousEnd::Unknown => "unknown",
        PreviousEnd::Clean => "clean",
        PreviousEnd::Unclean => "unclean",
    };
    put("previous_end", previous.into());
    put("starts", r.starts.into());
    put("found", r.found.into());
    put("torn", r.torn.into());
    let mut gist = format!("version {}, found {} records", printable(&r.version), r.found);
    if r.previous == PreviousEnd::Unclean {
        gist.push_str(", the process before did not end cleanly");
    }
    if r.torn {
        gist.push_str(", an unfinished write was cut");
    }
    if r.starts > 1 {
        gist.push_str(&format!(", one of {} starts", r.starts));
    }
    gist
}

fn config_changed(r: &ConfigChangedV1, put: &mut dyn FnMut(&str, Value)) -> String {
    put("former_sha256", r.former.map(|sha256| hex(&sha256)).into());
    put("config_sha256", hex(&r.sha256).into());
    let parts: Map<String, Value> =
        r.parts.iter().map(|part| (part.name.clone(), hex(&part.sha256).into())).collect();
    put("parts", parts.into());
    put("changed", r.changed.clone().into());
    put("unlisted", r.unlisted.into());
    match &r.changed {
        None => "the configuration is stated; what it was before is not known".into(),
        Some(keys) if r.unlisted > 0 => {
            format!("changed: {} and {} more", printable(&keys.join(" ")), r.unlisted)
        }
        Some(keys) => format!("changed: {}", printable(&keys.join(" "))),
    }
}

/// Who had it done.
fn actor(by: &Actor, put: &mut dyn FnMut(&str, Value)) -> String {
    match by {
        Actor::Account { account, jws_sha256 } => {
            put("by", "account".into());
            put("by_account", account.to_string().into());
            put("jws_sha256", hex(jws_sha256).into());
            "the account".into()
        }
        Actor::Operator { uid, user } => {
            put("by", "operator".into());
            put("uid", (*uid).into());
            put("user", user.as_str().into());
            format!("{} (uid {uid})", printable(user))
        }
        Actor::Key { jws_sha256 } => {
            put("by", "key".into());
            put("jws_sha256", hex(jws_sha256).into());
            "the certificate's key".into()
        }
    }
}

fn validations(validations: &[ValidationV1]) -> Value {
    let each = |v: &ValidationV1| {
        serde_json::json!({
            "identifier": v.identifier, "method": v.method, "at": v.at.to_string()
        })
    };
    validations.iter().map(each).collect()
}

/// The serial a record is about.
pub fn serial(record: &Record) -> Option<Serial> {
    match record {
        Record::IntentV1(r) => Some(r.serial),
        Record::IssuedV1(r) => Some(r.serial),
        Record::AbandonedV1(r) => Some(r.serial),
        Record::RevokedV1(r) => Some(r.serial),
        _ => None,
    }
}

/// The order an intent is for.
pub fn order(record: &Record) -> Option<OrderId> {
    match record {
        Record::IntentV1(r) => match r.requester {
            Requester::Order { order, .. } => Some(order),
            Requester::Own => None,
        },
        _ => None,
    }
}

/// The names in a TBSCertificate.
fn names(tbs: &[u8]) -> Vec<String> {
    Certificate::of_tbs(tbs)
        .map(|certificate| certificate.identifiers().iter().map(|i| i.value()).collect())
        .unwrap_or_default()
}

/// For a terminal: control characters could rewrite the table.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
