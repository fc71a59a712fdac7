//! docs/tokens.md: what the contract expects, which a run shows, with the versions and rates that it was shown with.

use std::collections::BTreeMap;

use chancery::hsm::token::{ModuleInfo, TokenInfo};

use super::REPOSITORY;
use super::models::{Cell, MODELS, Row, Step};

const PATH: &str = "docs/tokens.md";

/// What a run of one token found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// As the module says it.
    module: String,
    /// By the title of a row: signatures a second, as the page prints them.
    rates: BTreeMap<String, String>,
}

/// By the title of a token.
pub type Figures = BTreeMap<String, Measured>;

impl Measured {
    /// `identity` is a pair of module and token in JSON, empty where none was seen.
    pub fn of(identity: &str, rates: Vec<(String, (f64, f64))>) -> Self {
        let module = serde_json::from_str::<(ModuleInfo, TokenInfo)>(identity).map_or_else(
            |_| String::new(),
            |(module, token)| {
                let told =
                    [&module.description, &module.version, ";", &token.model, &token.firmware];
                // Some have blanks or NULs inside.
                let blank = |c: char| c.is_whitespace() || c.is_control();
                let words = |text: &str| {
                    text.split(blank).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
                };
                let told = told.map(words);
                told.join(" ").replace(" ;", ";")
            },
        );
        let print = |(one, two): (f64, f64)| format!("{} / {}", round(one), round(two));
        Self { module, rates: rates.into_iter().map(|(row, rate)| (row, print(rate))).collect() }
    }

    pub fn is_whole(&self) -> bool {
        !self.module.is_empty() && !self.rates.is_empty()
    }
}

/// Three digits: more is noise.
fn round(rate: f64) -> String {
    let digits = if rate >= 1000.0 { 10.0 } else { 1.0 };
    format!("{:.0}", (rate / digits).round() * digits)
}

/// The page with these figures.
pub fn render(figures: &Figures) -> String {
    let mut notes = Notes::default();
    let mut text = String::from(
        "# Tokens\n\n\
        Written by `make tokens`, which brings each token up in a directory of its own and runs every cell below. A \
        cell that does not end as stated here fails it; `cargo test` runs the same contract with shorter counts.\n\n\
        ## The contract\n\n| token | module and token, in its own words |",
    );
    for step in Step::ALL {
        text.push_str(&format!(" {} |", step.title()));
    }
    text.push_str(&format!("\n|{}\n", "---|".repeat(2 + Step::ALL.len())));
    for model in MODELS {
        let module = figures.get(model.title).map_or("", |measured| measured.module.as_str());
        text.push_str(&format!("| {} | {module} |", model.title));
        for step in Step::ALL {
            text.push_str(&format!(" {} |", notes.cell((model.step)(step), "works")));
        }
        text.push('\n');
    }
    text.push_str(
        "\n*Ceremony*: root, issuing, log and TLS key by `chancery ceremony run`, which refuses what is extractable, not \
        sensitive or not made on the token. *Sign*: every key signs through the pool, and what it signs verifies. *In \
        parallel*: four threads and all four classes ask at once; each question is answered once. *Logged out*: \
        another thread of the process calls C_Logout, three times. *Sessions lost*: C_Finalize and C_Initialize behind \
        the pool's back. *Finalized*: C_Finalize behind its back. *Token lost*: it goes away and comes back, in the \
        way that each allows (`tests/tokens/*.token` says how). After each of these the pool signs again without \
        help, with every key found by CKA_ID, compared with its pin, and tried. *Restart*: another process finds \
        the same keys, refuses another key under the id of a pinned one, and removes one for good. *Wrong PIN*: refused \
        with CHY-PIN-REFUSED after one try; the right one works afterwards.\n\n\
        ## Signatures a second\n\n\
        One thread / two threads, each with a session of its own, over messages of 600 octets, digest included, on a \
        machine with two cores that had other work beside it: an order of magnitude, not a comparison of rows; raw, \
        without the pool. RSA is PKCS #1 v1.5 with SHA-256 unless it says PSS.\n\n| token |",
    );
    for row in Row::ALL {
        text.push_str(&format!(" {} |", row.title()));
    }
    text.push_str(&format!("\n|{}\n", "---|".repeat(1 + Row::ALL.len())));
    for model in MODELS {
        text.push_str(&format!("| {} |", model.title));
        for row in Row::ALL {
            let rate =
                figures.get(model.title).and_then(|measured| measured.rates.get(row.title()));
            let rate = rate.map_or("?", String::as_str);
            text.push_str(&format!(" {} |", notes.cell((model.row)(row), rate)));
        }
        text.push('\n');
    }
    text.push('\n');
    for (number, note) in notes.0.iter().enumerate() {
        text.push_str(&format!("{}. {note}.\n", number + 1));
    }
    text.push_str(AFTERWORD);
    text
}

const AFTERWORD: &str = "\n## Not run\n\nYubiHSM 2, Nitrokey HSM 2, SmartCard-HSM, Luna, CloudHSM and Utimaco need \
    their hardware. `hsm/token/` has settings for them from their makers' documentation; each names its source and says \
    that it was not run.\n";

/// Footnotes, numbered as they come.
#[derive(Default)]
struct Notes(Vec<&'static str>);

impl Notes {
    fn cell(&mut self, cell: Cell, works: &str) -> String {
        let (word, note) = match cell {
            Cell::Works => return works.to_owned(),
            Cell::GoesOn(note) => ("works", note),
            Cell::Untouched(note) => ("signs on", note),
            Cell::Absent(note) => ("–", note),
            Cell::Refused(_, note) => ("refused", note),
        };
        let number = self.0.iter().position(|known| *known == note).unwrap_or_else(|| {
            self.0.push(note);
            self.0.len() - 1
        });
        format!("{word} [{}]", number + 1)
    }
}

pub fn read() -> String {
    std::fs::read_to_string(format!("{REPOSITORY}/{PATH}")).unwrap_or_default()
}

pub fn write(text: &str) {
    std::fs::write(format!("{REPOSITORY}/{PATH}"), text).unwrap();
}

/// The versions and rates that a page states.
pub fn figures(page: &str) -> Figures {
    let (contract, rates) = page.split_once("\n## Signatures a second\n").unwrap_or((page, ""));
    let rows = |text: &str| -> BTreeMap<String, Vec<String>> {
        let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
        rows.map(|row| row.split(" | ").map(str::to_owned).collect::<Vec<_>>())
            .filter_map(|row| Some((row.first()?.clone(), row.get(1..)?.to_vec())))
            .collect()
    };
    let mut rates = rows(rates);
    let measured = rows(contract).into_iter().map(|(title, columns)| {
        let rates = Row::ALL.iter().zip(rates.remove(&title).unwrap_or_default());
        let rates = rates
            .filter(|(_, rate)| rate.contains(" / "))
            .map(|(row, rate)| (row.title().to_owned(), rate));
        let module = columns.into_iter().next().unwrap_or_default();
        (title, Measured { module, rates: rates.collect() })
    });
    measured.collect()
}
