//! Tokens that really run, through one contract: ceremony, sign, sign in parallel, lose the login, the sessions, the
//! module and the token, restart, a wrong PIN, and every algorithm that the token has.
//!
//! `cargo test` runs each token that is here once, quickly, and with CI set each must be here; `tools.sh` builds those
//! that no Debian package has. `make tokens` does that, counts longer and writes docs/tokens.md. `token.sh` brings a
//! token up; `models.rs` says what is expected of it.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unreachable_pub, reason = "one binary")]

#[path = "../support/lab.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod lab;

mod contract;
mod models;
mod page;

use std::process::Command;

use contract::{Outcome, Outcomes};
use models::{MODELS, Model, Row, Step};
use page::{Figures, Measured};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
/// Which token the process stands beside.
const TOKEN: &str = "CHANCERY_TOKEN";
/// What `token.sh` says by its exit status where the token is not installed.
const NOT_INSTALLED: i32 = 3;

/// Runs the contract beside the token; `None` where it is not installed.
fn run(model: &Model, span: &str) -> Option<(Outcomes, Measured)> {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(format!("{REPOSITORY}/tests/tokens/token.sh"))
        .arg(model.name)
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "inside", "--ignored", "--nocapture"])
        .env(TOKEN, model.name)
        .env(contract::SPAN, span)
        .output()
        .unwrap();
    let said = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if output.status.code() == Some(NOT_INSTALLED) {
        println!("not installed, not run: {}", said.trim());
        return None;
    }
    println!("{said}");
    assert!(output.status.success(), "{}: {}", model.name, output.status);
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let outcomes: Outcomes = serde_json::from_str(&read("outcomes.json")).unwrap();
    let rates = outcomes.iter().filter_map(|(row, outcome)| match outcome {
        Outcome::Signs(one, two) => Some((row.clone(), (*one, *two))),
        _ => None,
    });
    let measured = Measured::of(&read("identity.json"), rates.collect());
    Some((outcomes, measured))
}

/// What went otherwise than `models.rs` says.
fn surprises(model: &Model, outcomes: &Outcomes) -> Vec<String> {
    let expected = Step::ALL
        .map(|step| (step.title(), (model.step)(step)))
        .into_iter()
        .chain(Row::ALL.map(|row| (row.title(), (model.row)(row))));
    expected
        .filter_map(|(title, cell)| {
            let outcome =
                outcomes.iter().find(|(known, _)| known == title).map(|(_, outcome)| outcome);
            let as_expected = outcome.is_some_and(|outcome| cell.expects(outcome));
            (!as_expected)
                .then(|| format!("{}, {title}: expected {cell:?}, {outcome:?}", model.name))
        })
        .collect()
}

fn model(name: &str) -> &'static Model {
    MODELS.into_iter().find(|model| model.name == name).unwrap()
}

fn holds(name: &str) {
    let model = model(name);
    let Some((outcomes, _)) = run(model, "50") else {
        assert!(std::env::var_os("CI").is_none(), "{name}: CI runs every token");
        return;
    };
    let surprises = surprises(model, &outcomes);
    assert!(surprises.is_empty(), "{}", surprises.join("\n\n"));
}

#[test]
fn softhsm2_holds_the_contract() {
    holds("softhsm2");
}

#[test]
fn kryoptic_holds_the_contract() {
    holds("kryoptic");
}

#[test]
fn a_tpm_holds_the_contract() {
    holds("tpm2-pkcs11");
}

#[test]
fn opencryptoki_holds_the_contract() {
    holds("opencryptoki");
}

#[test]
fn p11_kit_holds_the_contract() {
    holds("p11-kit");
}

#[test]
fn nss_holds_the_contract() {
    holds("nss");
}

/// Not a test: what `token.sh` runs beside a token.
#[test]
#[ignore = "runs beside a token, started by the others"]
fn inside() {
    contract::inside(model(&std::env::var(TOKEN).unwrap()));
}

/// One token after the other, with nothing beside it; CHANCERY_TOKENS=NAME,NAME: some of them.
#[test]
#[ignore = "make tokens"]
fn the_table() {
    let only = std::env::var("CHANCERY_TOKENS").unwrap_or_default();
    let span = std::env::var(contract::SPAN).unwrap_or_else(|_| "2000".into());
    let before = page::read();
    let mut figures = page::figures(&before);
    let mut wrong = Vec::new();
    for model in MODELS {
        if !only.is_empty() && !only.split(',').any(|name| name == model.name) {
            continue;
        }
        match run(model, &span) {
            Some((outcomes, measured)) => {
                wrong.extend(surprises(model, &outcomes));
                figures.insert(model.title.to_owned(), measured);
            }
            None => wrong.push(format!("{} is not installed", model.name)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    page::write(&page::render(&figures));
}

/// The page agrees with what is expected in everything but versions and figures, which only a run knows.
#[test]
fn the_page_is_what_the_contract_expects() {
    let page = page::read();
    let figures: Figures = page::figures(&page);
    assert!(page == page::render(&figures), "docs/tokens.md is stale: make tokens");
    for model in MODELS {
        let measured = figures.get(model.title);
        let usable = (model.step)(Step::Sign) == models::Works;
        assert!(
            !usable || measured.is_some_and(Measured::is_whole),
            "{} was never run",
            model.name
        );
    }
}

/// Every token that is run has settings that are shipped, and every shipped one says whether it is run.
#[test]
fn shipped_settings_say_whether_they_were_run() {
    let run: Vec<&str> = MODELS.iter().map(|model| model.name).collect();
    let mut seen = 0;
    for entry in std::fs::read_dir(format!("{REPOSITORY}/hsm/token")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let says_not_run = text.contains("Not run here");
        assert_eq!(says_not_run, !run.contains(&name.as_str()), "{name}");
        assert!(says_not_run || text.contains("docs/tokens.md"), "{name} names no figures");
        assert!(!says_not_run || text.contains("https://"), "{name} names no source");
        seen += usize::from(run.contains(&name.as_str()));
    }
    assert_eq!(seen, run.len());
}
