//! `chancery why CODE`: what a code means and what to do about it.

mod codes;

pub use codes::codes;

use super::{Context, Failure};
use crate::hsm::token::ckr;

/// One stable code. Codes are never reused for another meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub code: &'static str,
    /// What is wrong, in one or two sentences.
    pub means: &'static str,
    /// What the operator does about it.
    pub do_this: &'static str,
}

/// `chancery why`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The code, as printed: CHY-…, or what a token answers: CKR_…. Without one, all CHY- codes are listed.
    pub code: Option<String>,
}

/// The entry of a code; case and a missing `CHY-` are forgiven.
pub fn find(code: &str) -> Option<&'static Entry> {
    let wanted = code.trim().trim_end_matches(':').to_ascii_uppercase();
    codes::ROOMS
        .into_iter()
        .flatten()
        .find(|entry| entry.code == wanted || entry.code.strip_prefix("CHY-") == Some(&wanted))
}

/// Prints one entry, or the table.
pub fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let chosen: Vec<&Entry> = match &arguments.code {
        None => codes(),
        Some(code) => match find(code) {
            Some(entry) => vec![entry],
            None => {
                if let Some(told) = ckr::find(code.trim().trim_end_matches(':')) {
                    return say(&told, context);
                }
                let nearest = crate::config::nearest(
                    &code.to_ascii_uppercase(),
                    codes().into_iter().map(|e| e.code),
                )
                .map(|near| format!("; the nearest is {near}"))
                .unwrap_or_default();
                return Err(Failure::failed(format!(
                    "CHY-CODE-UNKNOWN: no code is called `{code}`{nearest}; `chancery why` lists them all"
                )));
            }
        },
    };
    if context.json {
        let rows: Vec<_> = chosen
            .iter()
            .map(|e| serde_json::json!({"code": e.code, "means": e.means, "do": e.do_this}))
            .collect();
        return super::print_json(&rows);
    }
    for entry in chosen {
        super::print(&format!(
            "{}\n  means  {}\n  do     {}\n",
            entry.code, entry.means, entry.do_this
        ))?;
    }
    Ok(())
}

/// Prints what a token's answer means.
fn say(told: &ckr::Told, context: &Context) -> Result<(), Failure> {
    if context.json {
        return super::print_json(&[serde_json::json!({
            "code": told.code, "ckr": told.name, "means": told.means, "do": told.do_this
        })]);
    }
    super::print(&format!(
        "{} (a token's answer; reported as {})\n  means  {}\n  do     {}\n",
        told.name, told.code, told.means, told.do_this
    ))
}

/// `docs/errors.md`, from the table.
pub(crate) fn markdown() -> String {
    let mut text = String::from(
        "# What the codes mean\n\nWritten by `make docs`; `chancery why CODE` prints one of them.\n\n\
         | Code | Means | Do this |\n|---|---|---|\n",
    );
    for entry in codes() {
        text.push_str(&format!(
            "| `{}` | {} | {} |\n",
            entry.code,
            cell(entry.means),
            cell(entry.do_this)
        ));
    }
    text.push_str(
        "\n# What a token answers\n\nEvery return value of PKCS#11 3.2; `chancery why CKR_…` prints one of them.\n\n\
         | Value | | Means | Reported as | Do this |\n|---|---|---|---|---|\n",
    );
    for (number, told) in ckr::all() {
        text.push_str(&format!(
            "| 0x{number:x} | `{}` | {} | `{}` | {} |\n",
            told.name, told.means, told.code, told.do_this
        ));
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_unique_and_well_formed() {
        let sorted = |pair: [&str; 2]| assert!(pair[0] < pair[1], "{} before {}", pair[0], pair[1]);
        for room in codes::ROOMS {
            room.windows(2).for_each(|pair| sorted([pair[0].code, pair[1].code]));
        }
        let all = codes();
        all.windows(2).for_each(|pair| sorted([pair[0].code, pair[1].code]));
        for entry in all {
            assert!(entry.code.starts_with("CHY-"));
            assert!(
                entry
                    .code
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
            );
            assert!(entry.means.ends_with('.') && entry.do_this.ends_with('.'), "{}", entry.code);
        }
    }

    #[test]
    fn every_code_in_the_source_is_in_the_table() {
        let mut missing = Vec::new();
        let mut files = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        while let Some(path) = files.pop() {
            if path.is_dir() {
                files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for (at, _) in text.match_indices("CHY-") {
                let code: String = text[at..]
                    .chars()
                    .take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '-')
                    .collect();
                let code = code.trim_end_matches('-');
                if code.len() > 3 && code != "CHY" && find(code).is_none() {
                    missing.push(format!("{code} in {}", path.display()));
                }
            }
        }
        assert!(missing.is_empty(), "codes without an entry in src/cli/why/codes/: {missing:#?}");
    }

    #[test]
    fn a_code_is_found_as_it_is_typed() {
        assert_eq!(find("chy-pin-refused:").unwrap().code, "CHY-PIN-REFUSED");
        assert_eq!(find("PIN-REFUSED").unwrap().code, "CHY-PIN-REFUSED");
        assert!(find("PIN").is_none());
    }
}
