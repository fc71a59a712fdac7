//! What `firmware-config/monitoring/` says: judged by Prometheus itself, on a real box, and held against the runbook.
//! Without `tests/monitoring/tools.sh` the parts that need Prometheus are named and passed over, but not where `CI` is set.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/lab.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several test programs")]
mod lab;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::{Lab, Options};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap()
}

const ALERTS: &str = "firmware-config/monitoring/alerts.yml";
const DASHBOARD: &str = "firmware-config/monitoring/dashboard.json";
const RUNBOOK: &str = "docs/runbook.md";

/// A program of Prometheus, if it is there.
fn tool(name: &str) -> Option<PathBuf> {
    let path = repository("target/tools/prometheus/usr/bin").join(name);
    let found = path.is_file();
    assert!(found || std::env::var_os("CI").is_none(), "{name}: tests/monitoring/tools.sh");
    if !found {
        eprintln!("not run: {name} is missing (tests/monitoring/tools.sh)");
    }
    found.then_some(path)
}

/// The values of `key: value` lines.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text.lines().map(|line| line.trim_start().trim_start_matches("- "));
    lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).collect()
}

/// Metric names that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c| !is_name(c));
    words
        .filter(|word| word.starts_with("chancery_") && word.len() > 9)
        .map(str::to_owned)
        .collect()
}

#[test]
fn promtool_understands_the_rules_and_each_alert_fires_for_what_it_is_about() {
    let alerts = read(ALERTS);
    let tests = read("firmware-config/monitoring/alerts.test.yml");
    let named: Vec<&str> = values(&alerts, "alert");
    let tested: BTreeSet<&str> = values(&tests, "alertname").into_iter().collect();
    assert_eq!(named.iter().copied().collect::<BTreeSet<_>>(), tested);
    assert_eq!(named.len(), tested.len(), "an alert stands twice");
    let Some(promtool) = tool("promtool") else { return };
    let dir = repository("firmware-config/monitoring");
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        lab::succeed(Command::new(&promtool).args(arguments).current_dir(&dir));
    }
}

#[test]
fn each_alert_has_its_section_in_the_runbook_and_each_section_its_alert() {
    let (alerts, runbook) = (read(ALERTS), read(RUNBOOK));
    let named: BTreeSet<&str> = values(&alerts, "alert").into_iter().collect();
    let headings = runbook.lines().filter_map(|line| line.strip_prefix("### "));
    let sections: BTreeSet<&str> = headings.filter(|name| name.starts_with("Chancery")).collect();
    assert_eq!(named, sections);
    for name in named {
        let link = format!("runbook: docs/runbook.md#{}", name.to_lowercase());
        assert!(alerts.contains(&link), "{name} leads to no section");
        let (_, section) = runbook.split_once(&format!("### {name}\n")).unwrap();
        let section = section.split("\n#").next().unwrap();
        for part in ["*Means.*", "*Look.*", "*Do.*", "*Over.*"] {
            assert!(section.contains(part), "{name} has no {part}");
        }
    }
}

/// Commands that the runbook gives are those that the program has.
#[test]
fn the_runbook_names_commands_that_exist() {
    let (runbook, commands) = (read(RUNBOOK), read("docs/commands.md"));
    let known: BTreeSet<&str> = commands
        .lines()
        .filter_map(|line| line.strip_prefix("## `chancery ")?.strip_suffix('`'))
        .collect();
    let mut seen = 0;
    for (at, _) in runbook.match_indices("chancery ") {
        let (before, rest) = (&runbook[..at], &runbook[at + 9..]);
        // In code, not in prose.
        let code =
            before.ends_with('`') || before.ends_with("\n    ") || before.ends_with("-issuer ");
        if !code {
            continue;
        }
        let words: Vec<&str> = rest.split(['`', '\n']).next().unwrap().split(' ').collect();
        let is_known = match words[..] {
            // All of them.
            [one] => known.iter().any(|known| known.split(' ').next() == Some(one)),
            [one, two, ..] => {
                known.contains(one) || known.contains(format!("{one} {two}").as_str())
            }
            [] => false,
        };
        assert!(is_known, "chancery {} is no command", words.join(" "));
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
    for code in runbook.split(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '-')
    {
        let code = code.trim_end_matches('-');
        if code.starts_with("CHY-") && code.len() > 4 {
            assert!(read("docs/errors.md").contains(code), "{code} is no code");
        }
    }
}

/// A box of which there is something to say: it has a witness, and that is away.
fn boxed(dir: &Path) -> Lab {
    const WITNESS: &str = "w.test/witness+257d2d66+BAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let more = format!("[[web.witnesses]]\nvkey = \"{WITNESS}\"\nurl = \"http://{away}\"\n");
    Lab::start_in(dir, Options { more, ..Options::default() })
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_real_prometheus_scrapes_a_real_box_and_finds_it_well() {
    let dir = tempfile::tempdir().unwrap();
    let lab = boxed(dir.path());
    // As `chancery backup` leaves it.
    let last = lab.dir.join("state/public/last-backup.json");
    std::fs::write(last, "{\"made\": 1700000000000}\n").unwrap();
    // Something that is refused, so that it is counted.
    lab::get(lab.http, "/acme/nothing").unwrap();
    let metrics = || lab::get(lab.http, "/metrics").unwrap();
    let away = "chancery_problem{code=\"CHY-WITNESS-AWAY\"} 1";
    lab::eventually(&lab, "a problem", || metrics().contains(away));
    let metrics = metrics();
    every_metric_exists(&metrics);
    let Some(prometheus) = tool("prometheus") else { return };
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\n\
         scrape_configs: [{{job_name: chancery, static_configs: [{{targets: ['{}']}}]}}]\n",
        repository(ALERTS).display(),
        lab.http
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    let log = std::fs::File::create(dir.path().join("prometheus.log")).unwrap();
    let _running = Running(
        Command::new(prometheus)
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=series")
            .arg(format!("--web.listen-address={listen}"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap(),
    );
    // Scraped without a complaint, twice, so that rates have something to go by.
    let up = "query?query=count_over_time(up%7Bjob%3D%22chancery%22%7D%5B1m%5D)%3E2";
    lab::eventually(&lab, "scrapes", || ask(listen, up).contains("\"value\""));
    let targets = ask(listen, "targets");
    assert!(
        targets.contains("\"health\":\"up\"") && targets.contains("\"lastError\":\"\""),
        "{targets}"
    );
    // Prometheus knows how many samples it took: all that the box wrote.
    let written = metrics.lines().filter(|line| line.starts_with("chancery_")).count();
    let taken = ask(listen, "query?query=scrape_samples_scraped");
    let taken: serde_json::Value = serde_json::from_str(&taken).unwrap();
    let taken = taken["data"]["result"][0]["value"][1].as_str().unwrap().parse::<usize>().unwrap();
    assert!(taken >= written && written > 200, "{taken} of {written}");

    let unknown = "\"health\":\"unknown\"";
    lab::eventually(&lab, "rules", || {
        let rules = ask(listen, "rules");
        rules.contains("\"health\":\"ok\"") && !rules.contains(unknown)
    });
    let rules = ask(listen, "rules");
    assert!(!rules.contains("\"health\":\"err\""), "{rules}");
    let firing = ask(listen, "query?query=ALERTS%7Balertstate%3D%22firing%22%7D");
    assert!(firing.contains("\"result\":[]"), "{firing}");
}

/// An answer of Prometheus's API, its body; empty before it listens.
fn ask(server: SocketAddr, path: &str) -> String {
    lab::pause(Duration::from_millis(200));
    let answer = lab::get(server, &format!("/api/v1/{path}")).unwrap_or_default();
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

/// What rules, dashboard and runbook name, a box has.
fn every_metric_exists(metrics: &str) {
    let mut families = BTreeSet::new();
    for line in metrics.lines().filter(|line| line.starts_with("chancery_")) {
        families.insert(line.split(['{', ' ']).next().unwrap());
    }
    // Only where something happened that did not happen here; the program's own test shows them.
    let later = [
        "chancery_token_recoveries_total",
        "chancery_rate_limited_total",
        "chancery_watched_cosigned_timestamp_seconds",
    ];
    for place in [ALERTS, DASHBOARD, RUNBOOK, "docs/manual.md", "docs/figures.md"] {
        for name in named(&read(place)) {
            let exists = families.contains(name.as_str()) || later.contains(&name.as_str());
            // Prose may name a histogram without its suffix.
            let is_histogram = families.contains(format!("{name}_bucket").as_str());
            assert!(
                exists || (place.ends_with(".md") && is_histogram),
                "{place}: {name} in {families:?}"
            );
        }
    }
}

#[test]
fn the_dashboard_is_what_grafana_reads() {
    let dashboard: serde_json::Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut places = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: the id stands twice");
        let at = &panel["gridPos"];
        let (x, y) = (at["x"].as_u64().unwrap(), at["y"].as_u64().unwrap());
        assert!(x + at["w"].as_u64().unwrap() <= 24 && places.insert((x, y)), "{title}: {at}");
        if panel["type"] == "row" {
            continue;
        }
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = target["expr"].as_str().unwrap();
            let own = expression.contains("chancery_") && expression.contains("$box");
            assert!(own, "{title}: {expression}");
        }
    }
    assert!(panels.len() > 15);
}
