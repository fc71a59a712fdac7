//! One JSON object: the period, the counts, the verdict if there is one, and a row for each record.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::rows::Section;
use super::{Head, Row, Summary, Tally, Writes};

#[derive(Default)]
pub(super) struct Json {
    rows: u64,
}

impl Writes for Json {
    fn sections(&self) -> &'static [Section] {
        &[Section::All]
    }

    fn begin(&mut self, head: &Head<'_>, out: &mut dyn Write) -> io::Result<()> {
        let request = head.request;
        let mut object = json!({
            "origin": head.origin,
            "since": request.period.since.to_string(),
            "until": request.period.until.to_string(),
            "made": request.made.to_string(),
            "summary": summary(&head.summary),
        });
        if let Some(verdict) = request.verdict {
            let found: Vec<String> = verdict.findings.iter().map(ToString::to_string).collect();
            object["verified"] = json!({
                "sound": verdict.is_sound(),
                "records": verdict.head.map(|head| head.size),
                "covered": verdict.covered,
                "findings": found,
                "notes": verdict.notes,
            });
        }
        // The rows follow as the last member.
        let text = format!("{object:#}");
        let open = text.strip_suffix("\n}").unwrap_or(&text);
        write!(out, "{open},\n  \"records\": [")
    }

    fn section(&mut self, _: Section, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, row: &Row, out: &mut dyn Write) -> io::Result<()> {
        let text = |value: Option<String>| value.map_or(Value::Null, Value::String);
        let mut value = json!({
            "leaf": row.leaf.0,
            "time": text(row.at.map(|at| at.to_string())),
            "kind": row.kind,
            "serial": text(row.serial.map(|serial| serial.to_string())),
            "names": row.names,
            "profile": row.profile,
            "account": text(row.account.map(|account| account.to_string())),
            "order": text(row.order.map(|order| order.to_string())),
            "validations": row.validations.iter().map(|v| {
                json!({"identifier": v.identifier, "method": v.method, "at": v.at.to_string()})
            }).collect::<Vec<_>>(),
            "not_after": text(row.not_after.map(|at| at.to_string())),
            "actor": row.actor,
            "what": row.what,
            "proof": row.proof,
        });
        if let Some(object) = value.as_object_mut() {
            object.retain(|_, value| {
                !value.is_null() && value.as_array().is_none_or(|array| !array.is_empty())
            });
        }
        let comma = if self.rows == 0 { "" } else { "," };
        self.rows += 1;
        write!(out, "{comma}\n    {value}")
    }

    fn close(&mut self, _: u64, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "\n  ]\n}}")
    }
}

fn summary(summary: &Summary) -> Value {
    let tallies = |groups: &BTreeMap<String, Tally>| -> Value {
        groups
            .iter()
            .map(|(name, each)| (name.clone(), tally(each)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let crls: serde_json::Map<String, Value> = summary
        .crls
        .iter()
        .map(|(url, crls)| (url.clone(), json!({"made": crls.made, "number": crls.number})))
        .collect();
    json!({
        "total": tally(&summary.total),
        "kinds": summary.kinds,
        "days": tallies(&summary.days),
        "profiles": tallies(&summary.profiles),
        "accounts": tallies(&summary.accounts),
        "refusals": summary.refusals,
        "crls": crls,
    })
}

fn tally(tally: &Tally) -> Value {
    json!({
        "issued": tally.issued,
        "abandoned": tally.abandoned,
        "revoked": tally.revoked,
        "refused": tally.refused,
    })
}
