//! What a log of this size costs, each measured in a process of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chancery::audit::verify::{self, Evidence, Means};
use chancery::env::Disk;
use chancery::env::system::SystemDisk;
use chancery::id::Timestamp;
use chancery::log::Log;
use chancery::log::index::{self, Listing, NamePattern};
use chancery::log::reader::Reader;
use chancery::pki::certificate::Certificate;

use super::fill::{self, ORIGIN, Signer, Subject};
use super::{Place, microseconds, now};

/// Questions to each index.
const QUESTIONS: u64 = 2_000;
/// Certificates of a list that are asked for.
const LIST: usize = 10;

/// Of one size.
#[derive(Default)]
pub struct Figures {
    pub certificates: u64,
    /// Records a second, signatures of certificates and checkpoints made meanwhile.
    pub append_rate: f64,
    pub log_octets: u64,
    pub index_octets: u64,
    /// By role and name.
    pub of_role: BTreeMap<&'static str, BTreeMap<String, f64>>,
}

impl Figures {
    fn get(&self, role: &str, name: &str) -> f64 {
        self.of_role.get(role).and_then(|figures| figures.get(name)).copied().unwrap_or(f64::NAN)
    }
}

/// Sizes on disk.
pub fn disk(place: &Place, figures: &mut Figures) {
    let reader = Reader::open(Arc::new(SystemDisk), &place.log).unwrap();
    let last = reader.segments().last().unwrap();
    // The free end of the last segment is left out: it is the same at every size.
    figures.log_octets = last.header.base;
    figures.log_octets += if figures.log_octets == 0 { last.octets } else { 0 };
    figures.index_octets = std::fs::metadata(place.log.join("index.redb")).unwrap().len();
}

/// Runs in one role and prints a figure a line.
pub fn child(role: &str, place: &Place, certificates: u64) {
    match role {
        "settle" => {
            let log = Log::open(fill::opening(place)).unwrap();
            fill::settle(place, &log, certificates);
        }
        "open" => drop(open(place)),
        "find" => find(place, certificates),
        "die" => {
            let log = Log::open(fill::opening(place)).unwrap();
            fill::append_last(place, &log, certificates);
            std::process::abort();
        }
        "verify" => verify(place),
        "rebuild" => rebuild(place),
        other => panic!("there is no role {other}"),
    }
}

fn open(place: &Place) -> Log {
    let began = now();
    let log = Log::open(fill::opening(place)).unwrap();
    println!("start ms {:.2}", began.elapsed().as_secs_f64() * 1e3);
    println!("rss KiB {}", memory("VmRSS:"));
    log
}

fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn find(place: &Place, certificates: u64) {
    let log = open(place);
    let index = log.index();
    let reader = Reader::open(Arc::new(SystemDisk), &place.log).unwrap();
    let last = |wanted: &dyn Fn(&Subject) -> Listing, subject: &Subject| {
        let part = index.certificates(&wanted(subject), Timestamp(0), None, LIST).unwrap();
        assert!(!part.found.is_empty());
    };
    let ask = |what: &str, question: &dyn Fn(&Subject)| {
        let times = || -> Vec<Duration> {
            let timed = |k| {
                // A fixed walk through all of them, far from the order in which they came.
                let subject = Subject::new((k * 7_919_993 + 13) % certificates);
                let began = now();
                question(&subject);
                began.elapsed()
            };
            (0..QUESTIONS).map(timed).collect()
        };
        // First whatever the page cache has lost is read.
        let _ = times();
        let mut times = times();
        times.sort_unstable();
        println!("{what} p50 {:.1}", microseconds(times[times.len() / 2]));
        println!("{what} p99 {:.1}", microseconds(times[times.len() * 99 / 100]));
    };
    ask("serial", &|s| assert!(index.by_serial(s.serial).unwrap().is_some()));
    ask("certificate", &|s| assert!(index.certificate(s.serial).unwrap().is_some()));
    ask("order", &|s| assert!(index.by_order(s.order).unwrap().is_some()));
    ask("account", &|s| assert!(index.account(s.account).unwrap().is_some()));
    ask("account's ten", &|s| last(&|s| Listing::Account(s.account), s));
    ask("name's ten", &|s| last(&|s| Listing::Named(NamePattern::new(&s.name)), s));
    ask("ten below a name", &|s| {
        last(&|s| Listing::Named(NamePattern::Below(s.subdomain.clone())), s);
    });
    ask("ten by end", &|s| {
        let part = index.certificates(&Listing::All, s.at, None, LIST).unwrap();
        assert!(!part.found.is_empty());
    });
    ask("a day", &|s| assert!(!index.days(s.at, s.at).unwrap().is_empty()));
    ask("a day in the files", &|s| assert!(reader.since(s.at).is_ok()));
    println!("rss after KiB {}", memory("VmRSS:"));
}

fn verify(place: &Place) {
    let issuing = Certificate::parse_pem(&std::fs::read_to_string(&place.issuing).unwrap());
    let evidence = Evidence {
        issuers: vec![issuing.unwrap()],
        origin: Some(ORIGIN.into()),
        log_keys: vec![Signer::new().spki().to_vec()],
        checkpoints: vec![place.public.join("checkpoint")],
        ..Evidence::default()
    };
    let path = place.public.join("scratch");
    let scratch = SystemDisk.create(&path, 0).unwrap();
    std::fs::remove_file(&path).unwrap();
    let means = Means { scratch: Some(scratch), ..Means::default() };
    let began = now();
    let verdict = verify::verify(Arc::new(SystemDisk), &place.log, &evidence, means).unwrap();
    let took = began.elapsed().as_secs_f64();
    assert!(verdict.is_sound(), "{verdict}");
    println!("records a second {:.0}", verdict.head.unwrap().size as f64 / took);
    println!("peak KiB {}", memory("VmHWM:"));
}

fn rebuild(place: &Place) {
    let disk = Arc::new(SystemDisk);
    let published = index::Published { public: &place.public, entries: false };
    let began = now();
    let rebuilt =
        index::rebuild(disk, &place.log, chancery::issuer::read_tbs, Some(published), &mut |_| {})
            .unwrap();
    let took = began.elapsed().as_secs_f64();
    println!("records a second {:.0}", rebuilt.records as f64 / took);
    println!("octets {}", rebuilt.octets);
    println!("peak KiB {}", memory("VmHWM:"));
}

/// What is printed: its name, and the figure.
type Line = (&'static str, fn(&Figures) -> f64);

const LINES: &[Line] = &[
    ("appended, records/s", |f| f.append_rate),
    ("log, octets/certificate", |f| f.log_octets as f64 / f.certificates as f64),
    ("index, octets/certificate", |f| f.index_octets as f64 / f.certificates as f64),
    ("rebuilt index, octets/certificate", |f| f.get("rebuild", "octets") / f.certificates as f64),
    ("start, ms", |f| f.get("open", "start ms")),
    ("start after a kill, ms", |f| f.get("after a kill", "start ms")),
    ("resident after start, MiB", |f| f.get("open", "rss KiB") / 1024.0),
    ("resident after 20,000 questions, MiB", |f| f.get("find", "rss after KiB") / 1024.0),
    ("issuance by serial, µs p50", |f| f.get("find", "serial p50")),
    ("… p99", |f| f.get("find", "serial p99")),
    ("certificate by serial, µs p50", |f| f.get("find", "certificate p50")),
    ("… p99", |f| f.get("find", "certificate p99")),
    ("issuance by order, µs p50", |f| f.get("find", "order p50")),
    ("… p99", |f| f.get("find", "order p99")),
    ("account, µs p50", |f| f.get("find", "account p50")),
    ("… p99", |f| f.get("find", "account p99")),
    ("ten certificates of an account, µs p50", |f| f.get("find", "account's ten p50")),
    ("… p99", |f| f.get("find", "account's ten p99")),
    ("ten of a name, µs p50", |f| f.get("find", "name's ten p50")),
    ("… p99", |f| f.get("find", "name's ten p99")),
    ("ten below a name, µs p50", |f| f.get("find", "ten below a name p50")),
    ("… p99", |f| f.get("find", "ten below a name p99")),
    ("ten by end of validity, µs p50", |f| f.get("find", "ten by end p50")),
    ("… p99", |f| f.get("find", "ten by end p99")),
    ("a day, µs p50", |f| f.get("find", "a day p50")),
    ("… p99", |f| f.get("find", "a day p99")),
    ("a day without the index, µs p50", |f| f.get("find", "a day in the files p50")),
    ("… p99", |f| f.get("find", "a day in the files p99")),
    ("verified, records/s", |f| f.get("verify", "records a second")),
    ("… memory at most, MiB", |f| f.get("verify", "peak KiB") / 1024.0),
    ("index rebuilt, records/s", |f| f.get("rebuild", "records a second")),
    ("… memory at most, MiB", |f| f.get("rebuild", "peak KiB") / 1024.0),
];

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{} certificates", self.certificates)?;
        LINES
            .iter()
            .try_for_each(|(name, figure)| writeln!(f, "{name:<40} {:>12}", short(figure(self))))
    }
}

/// The sizes side by side, and the last against the first.
pub struct Table<'a>(pub &'a [Figures]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n| certificates |")?;
        self.0.iter().try_for_each(|size| write!(f, " {} |", size.certificates))?;
        writeln!(f, " last : first |")?;
        writeln!(f, "|---|{}---|", "---|".repeat(self.0.len()))?;
        for (name, figure) in LINES {
            write!(f, "| {name} |")?;
            self.0.iter().try_for_each(|size| write!(f, " {} |", short(figure(size))))?;
            if let (Some(first), Some(last)) = (self.0.first(), self.0.last()) {
                write!(f, " {:.1} |", figure(last) / figure(first))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn short(figure: f64) -> String {
    if figure < 100.0 { format!("{figure:.1}") } else { format!("{figure:.0}") }
}

/// Fails if something grew that must not: bounds are wide, for machines that do other things too.
pub fn flat(all: &[Figures]) {
    let (Some(first), Some(last)) = (all.first(), all.last()) else { return };
    let grows = |role: &str, name: &str, times: f64, plus: f64| {
        let (small, large) = (first.get(role, name), last.get(role, name));
        assert!(large <= small * times + plus, "{role}, {name}: {small} became {large}");
    };
    grows("open", "rss KiB", 1.5, 16_384.0);
    grows("find", "rss after KiB", 1.5, 16_384.0);
    // Reading all of even the smallest log takes an unoptimized build longer.
    grows("open", "start ms", 3.0, 5_000.0);
    grows("after a kill", "start ms", 3.0, 5_000.0);
    for what in ["serial", "order", "certificate", "account", "name's ten", "a day"] {
        grows("find", &format!("{what} p50"), 5.0, 200.0);
    }
}
