//! The machine's part of `doctor`: CA files, directories, disk, clock, ports.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::Report;
use crate::app::{directories, ownership};
use crate::cli::clock::Verdict;
use crate::config::{Config, PinSource};
use crate::env::system::{Kept, SystemClock, SystemDisk};
use crate::env::{Clock, Disk};
use crate::pki::authority::Authority;
use crate::pki::certificate::Certificate;
use crate::pki::crl;
use crate::state::Format;

/// Not a fault: an update that was not kept can still be taken back.
pub(super) fn format(config: &Config, report: &mut Report<'_>) {
    let (here, own) = (config.written.format, Format::OWN);
    if here < own {
        report.ok("format", format!("the state is written in format {here}, this program writes up to {own}; a former release can run on it until `chancery state keep`"));
    } else {
        report.ok(
            "format",
            format!("the state is written in format {here}, the newest of this program"),
        );
    }
}

pub(super) fn authority(config: &Config, report: &mut Report<'_>) {
    let Some(authority) = &config.authority else {
        return report.warn(
            "CA",
            format!("CHY-CA-ABSENT: no ceremony has been held in {}", config.paths.state.display()),
        );
    };
    let now = SystemClock::new().now();
    let roots = authority.roots().filter(|root| !root.done);
    let roots = roots.map(|root| (root.name, Some(root.certificate)));
    let issuers = authority.issuers().filter(|issuing| !issuing.done);
    let issuers = issuers.map(|issuing| (issuing.name, issuing.certificate));
    for (name, pem) in roots.chain(issuers) {
        let Some(pem) = pem else {
            let text = format!("CHY-CA-INCOMPLETE: the certificate of {name} was not imported yet");
            report.warn("CA", text);
            continue;
        };
        match Certificate::parse_pem(pem) {
            Err(why) => {
                report.fail("CA", format!("CHY-CA-BROKEN: the {name} certificate: {}", why.0))
            }
            Ok(certificate) => {
                let (_, not_after) = certificate.validity();
                let text =
                    format!("{name} certificate {}, until {not_after}", certificate.subject());
                if not_after <= now {
                    report.fail("CA", format!("CHY-CA-EXPIRED: the {text}"));
                } else if not_after.since(now) < EXPIRY_WARNING {
                    report.warn("CA", format!("CHY-CA-EXPIRES: the {text}"));
                } else {
                    report.ok("CA", text);
                }
            }
        }
    }
}

/// The CRLs of the roots, which only a ceremony can renew. Of one that is done with nobody needs another.
pub(super) fn root_crls(config: &Config, report: &mut Report<'_>) {
    let Some(authority) = &config.authority else { return };
    for root in authority.roots().filter(|root| !root.done) {
        // One that does not parse was said before.
        if let Ok(certificate) = Certificate::parse_pem(root.certificate) {
            let path = config.paths.root_crl().with_file_name(format!("{}.crl", root.name));
            root_crl(root.name, &certificate, &path, report);
        }
    }
}

fn root_crl(name: &str, root: &Certificate, path: &Path, report: &mut Report<'_>) {
    let check =
        if name == Authority::FIRST_ROOT { "root CRL".to_owned() } else { format!("{name} CRL") };
    let der = match SystemDisk.read(path, crl::MAX_DER as u64) {
        Ok(der) => der,
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => {
            return report.fail(&check, format!("CHY-CA-BROKEN: {}: {error}", path.display()));
        }
    };
    match crl::parse_verified(&der, root) {
        Err(why) => {
            report.fail(&check, format!("CHY-CA-BROKEN: {}: {why}", path.display()));
        }
        Ok(list) => {
            let (now, ends) = (SystemClock::new().now(), list.next_update);
            if ends <= now {
                report.fail(&check, format!("CHY-ROOT-CRL: it ended {ends}"));
            } else {
                let days = ends.since(now).as_secs() / 86_400;
                let text = format!("number {}, until {ends}, {days} days", list.number);
                if ends.since(now) < crl::root_crl_warning(list.this_update, ends) {
                    report.warn(&check, format!("CHY-ROOT-CRL: {text}"));
                } else {
                    report.ok(&check, text);
                }
            }
        }
    }
}

const EXPIRY_WARNING: Duration = Duration::from_secs(180 * 86_400);

pub(super) fn directories(config: &Config, report: &mut Report<'_>) {
    let paths = &config.paths;
    match std::fs::metadata(&paths.state) {
        Ok(found) if found.is_dir() => report.ok("state", format!("{}", paths.state.display())),
        Ok(_) => {
            report
                .fail("state", format!("CHY-STATE-DIR: {} is no directory", paths.state.display()));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => report.warn(
            "state",
            format!(
                "CHY-STATE-DIR: {} does not exist yet; the first start makes it",
                paths.state.display()
            ),
        ),
        Err(error) => {
            report.fail("state", format!("CHY-STATE-DIR: {}: {error}", paths.state.display()));
        }
    }
    for private in [paths.issuer(), paths.web()] {
        if let Ok(found) = std::fs::metadata(&private)
            && found.mode() & 0o077 != 0
        {
            report.fail(
                "state",
                format!(
                    "CHY-STATE-DIR: {} has mode {:04o}; chmod 0700 it",
                    private.display(),
                    found.mode() & 0o7777
                ),
            );
        }
    }
    if let PinSource::File(path) = &config.pin {
        match crate::app::pin::check_file(path) {
            Ok(()) => report.ok("PIN file", format!("{}, closed to others", path.display())),
            Err(text) => report.fail("PIN file", text),
        }
    }
}

/// Whether the issuer's user reaches what it must open.
pub(super) fn ownership(config: &Config, report: &mut Report<'_>) {
    let Some(user) = &config.process.issuer_user else { return };
    let owner = match directories::owner(user) {
        Ok(owner) => owner,
        Err(failure) => return report.fail("users", failure.text),
    };
    let needed = ownership::needed(config);
    let mut is_good = true;
    for path in &needed {
        let Some(closed) = ownership::out_of_reach(path, owner) else { continue };
        is_good = false;
        let command = if closed == *path && path.is_dir() {
            format!("chown -R {user}: {}", path.display())
        } else if closed == *path {
            format!("chown {user}: {}", path.display())
        } else {
            format!("chmod a+x {}", closed.display())
        };
        report.fail(
            "users",
            format!(
                "CHY-OWNER: the issuer runs as `{user}` and does not reach {}; {command}",
                path.display()
            ),
        );
    }
    if is_good {
        report.ok("users", format!("`{user}` reaches PIN and token, {} paths", needed.len()));
    }
}

pub(super) fn disk(config: &Config, report: &mut Report<'_>) {
    // The nearest directory that exists: before the first start that is one above.
    let Some(place) = [config.paths.issuer(), config.paths.state.clone()]
        .into_iter()
        .chain(config.paths.state.ancestors().skip(1).map(Path::to_path_buf))
        .find(|path| path.is_dir())
    else {
        return;
    };
    let segment = config.log.segment_mib + config.log.reserve_mib;
    match SystemDisk.free(&place) {
        Err(error) => report.fail("disk", format!("CHY-DISK-LOW: {}: {error}", place.display())),
        Ok(octets) => {
            let mib = octets / (1024 * 1024);
            let text = format!("{mib} MiB free at {}", place.display());
            if mib < 2 * segment {
                report.fail(
                    "disk",
                    format!("CHY-DISK-FULL: {text}; the next segment needs {segment}"),
                );
            } else if mib < 16 * segment {
                report.warn("disk", format!("CHY-DISK-LOW: {text}"));
            } else {
                report.ok("disk", text);
            }
        }
    }
    match sync_median(&place) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            report.warn(
                "disk",
                format!(
                    "CHY-STATE-DIR: {}: {error}; run this as the issuer's user",
                    place.display()
                ),
            );
        }
        Err(error) => report.fail("disk", format!("CHY-DISK-SLOW: a trial write fails: {error}")),
        Ok(median) => {
            let text = format!("fdatasync takes {:.2} ms (median)", median.as_secs_f64() * 1e3);
            if median > Duration::from_millis(50) {
                report.warn("disk", format!("CHY-DISK-SLOW: {text}"));
            } else if median < Duration::from_micros(5) {
                report.warn(
                    "disk",
                    format!(
                        "CHY-DISK-SLOW: {text}: this file system keeps nothing durable (tmpfs?)"
                    ),
                );
            } else {
                report.ok("disk", text);
            }
        }
    }
}

/// How the log's complete segments are kept from change.
pub(super) fn segments(config: &Config, report: &mut Report<'_>) {
    // What is wrong with the CA's files or the log is for other checks, and for the issuer's start.
    let Ok(complete) = crate::cli::log::archive::complete(config) else { return };
    let (mut immutable, mut elsewhere) = (0, 0);
    for segment in &complete {
        let path = config.paths.log().join(&segment.name);
        match SystemDisk.kept(&path) {
            Ok(Kept::Immutable) => immutable += 1,
            Ok(Kept::Elsewhere(_)) => elsewhere += 1,
            Ok(Kept::ByMode(mode)) if mode & 0o222 == 0 => {}
            Ok(Kept::ByMode(mode)) => {
                return report.warn(
                    "log",
                    format!("CHY-LOG-UNSEALED: {} has mode {mode:04o}", path.display()),
                );
            }
            Err(error) => {
                return report.fail("log", format!("CHY-LOG-IO: {}: {error}", path.display()));
            }
        }
    }
    let text = format!(
        "{} complete segments, {immutable} immutable, {elsewhere} on other storage",
        complete.len()
    );
    if immutable + elsewhere < complete.len() {
        report.ok("log", format!("{text}; `chancery log seal` as root makes the others immutable"));
    } else {
        report.ok("log", text);
    }
}

fn sync_median(place: &Path) -> std::io::Result<Duration> {
    let path = place.join(format!(".doctor-{}", std::process::id()));
    let clock = SystemClock::new();
    let file = SystemDisk.create(&path, 64 * 1024)?;
    let timed = (0..TRIALS)
        .map(|number| {
            let began = clock.monotonic();
            file.write_at(number * 512, &[0x5a; 512])?;
            file.sync_data()?;
            Ok(clock.monotonic() - began)
        })
        .collect::<std::io::Result<Vec<_>>>();
    SystemDisk.remove(&path)?;
    let mut times = timed?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

const TRIALS: u64 = 21;

pub(super) fn clock(config: &Config, report: &mut Report<'_>) {
    match crate::cli::clock::read(config) {
        Ok(reading) if reading.verdict == Verdict::Plausible => report.ok("clock", reading.text()),
        Ok(reading) => report.fail("clock", reading.text()),
        Err(failure) => report.warn("clock", failure.text),
    }
}

pub(super) fn confinement(config: &Config, report: &mut Report<'_>) {
    match crate::app::confine::available() {
        Some(abi) => report.ok("confinement", format!("Landlock ABI {abi}")),
        None if config.process.unconfined => {
            report.warn(
                "confinement",
                "CHY-CONFINE: no Landlock; [process] unconfined lets the web process run",
            );
        }
        None => report.fail("confinement", "CHY-CONFINE: this kernel has no Landlock"),
    }
}

pub(super) fn ports(config: &Config, report: &mut Report<'_>) {
    let web = &config.web;
    let all = [
        ("listen", &web.listen),
        ("listen-http", &web.listen_http),
        ("listen-metrics", &web.listen_metrics),
    ];
    for (key, address) in
        all.into_iter().flat_map(|(key, list)| list.iter().map(move |a| (key, *a)))
    {
        port(key, address, config, report);
    }
    if web.listen.is_empty() {
        report.warn("ports", "CHY-PORT: [web] listen names no address, so no device can enrol");
    }
}

fn port(key: &str, address: SocketAddr, config: &Config, report: &mut Report<'_>) {
    match TcpListener::bind(address) {
        Ok(_) => report.ok("ports", format!("{address} ({key}) is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let ours = crate::cli::status::ask(config, "/healthz", Duration::from_secs(2));
            if ours.is_ok_and(|answer| answer.status == 200) {
                report.ok("ports", format!("{address} ({key}) is served by this box"));
            } else {
                report.fail(
                    "ports",
                    format!("CHY-PORT: {address} ({key}) is in use by another program"),
                );
            }
        }
        Err(error) => report.fail("ports", format!("CHY-PORT: {address} ({key}): {error}")),
    }
}
