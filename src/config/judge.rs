//! What a configuration must be beyond its types: ranges, and values that must fit each other.

use std::path::Path;

use super::ConfigError;
use super::effective::{Document, Pin};
use super::tree::{Node, Place};
use crate::pki::authority::Authority;
use crate::pki::profile::Profile;

/// Says no, with the place of the value that is to blame.
pub(super) struct Judge<'a> {
    pub(super) root: &'a Node,
}

impl Judge<'_> {
    fn refuse(&self, code: &str, path: &[&str], why: &str) -> ConfigError {
        let key = path.join(".");
        // A default that clashes with another value has no place of its own.
        let origin = if self.root.at(path).is_some() { "" } else { " (not set, the default)" };
        ConfigError(format!("{code}: {}: `{key}`{origin}: {why}", place(self.root, path)))
    }

    fn range<T: PartialOrd + std::fmt::Display>(
        &self,
        path: &[&str],
        value: T,
        low: T,
        high: T,
    ) -> Result<(), ConfigError> {
        if value < low || value > high {
            return Err(self.refuse(
                "CHY-CONFIG-VALUE",
                path,
                &format!("{value} does not lie between {low} and {high}"),
            ));
        }
        Ok(())
    }

    pub(super) fn document(
        &self,
        document: &Document,
        profiles: &[Profile],
        default_profile: &str,
    ) -> Result<(), ConfigError> {
        if !profiles.iter().any(|profile| profile.name == default_profile) {
            let near = super::nearest(default_profile, profiles.iter().map(|p| p.name.as_str()))
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            return Err(self.refuse(
                "CHY-CONFIG-PROFILE",
                &["default-profile"],
                &format!("no profile is called `{default_profile}`{near}"),
            ));
        }
        if let Pin::Prompt(false) = document.state.pin {
            return Err(self.refuse(
                "CHY-CONFIG-VALUE",
                &["state", "pin", "prompt"],
                "takes only true; for another source write { file = \"PATH\" } or { credential = \"NAME\" }",
            ));
        }
        if let Pin::Credential(name) = &document.state.pin
            && (name.is_empty() || name.contains('/') || name.starts_with('.'))
        {
            return Err(self.refuse(
                "CHY-CONFIG-VALUE",
                &["state", "pin", "credential"],
                "takes the name of a systemd credential, without a path",
            ));
        }
        self.numbers(document)?;
        self.web(&document.web)?;
        self.issuer(&document.issuer)?;
        self.validation(&document.validation)?;
        for recipient in &document.backup.recipients {
            if let Err(why) = recipient.parse::<crate::backup::age::Recipient>() {
                let why = format!("{recipient:?}: {why}");
                return Err(self.refuse("CHY-CONFIG-VALUE", &["backup", "recipients"], &why));
            }
        }
        if document.board.production {
            self.production(document)?;
        }
        let policy = crate::pki::policy::Policy::new(&document.policy).map_err(|bad| {
            self.refuse(
                "CHY-CONFIG-POLICY",
                &["policy", bad.list],
                &format!("`{}`: {}", bad.entry, bad.why),
            )
        })?;
        profiles.iter().try_for_each(|profile| {
            policy.check_profile(profile).map_err(|why| {
                let why = format!("profile `{}`: {why}", profile.name);
                self.refuse("CHY-CONFIG-PROFILE", &["profiles"], &why)
            })
        })
    }

    fn numbers(&self, document: &Document) -> Result<(), ConfigError> {
        let Document { web, issuer, log, token, validation, .. } = document;
        self.range(&["web", "connections"], web.connections, 1, 65_536)?;
        self.range(&["web", "connections-per-peer"], web.connections_per_peer, 1, 65_536)?;
        self.range(&["web", "handshakes"], web.handshakes, 1, 4_096)?;
        for (key, seconds) in [
            ("handshake-timeout-seconds", web.handshake_timeout_seconds),
            ("header-timeout-seconds", web.header_timeout_seconds),
            ("body-timeout-seconds", web.body_timeout_seconds),
            ("idle-timeout-seconds", web.idle_timeout_seconds),
        ] {
            self.range(&["web", key], seconds, 1, 3_600)?;
        }
        self.range(&["web", "grace-seconds"], web.grace_seconds, 0, 600)?;
        self.range(&["web", "order-hours"], web.order_hours, 1, 24 * 90)?;
        self.range(&["web", "authorization-hours"], web.authorization_hours, 1, 24 * 398)?;
        self.range(&["web", "retention-days"], web.retention_days, 1, 3_660)?;
        self.range(&["web", "renewal-info-hours"], web.renewal_info_hours, 1, 24)?;
        let limits = &web.limits;
        self.range(&["web", "limits", "name-tree-labels"], limits.name_tree_labels, 0, 10)?;
        self.range(
            &["web", "limits", "admissions-per-second"],
            limits.admissions_per_second,
            0,
            10_000,
        )?;
        self.range(&["web", "limits", "admission-burst"], limits.admission_burst, 1, 100_000)?;
        self.range(
            &["web", "limits", "admission-patience-seconds"],
            limits.admission_patience_seconds,
            0,
            60,
        )?;
        self.range(&["issuer", "tls-days"], issuer.tls_days, 1, 398)?;
        self.range(&["issuer", "crl-hours"], issuer.crl_hours, 2, 24 * 365)?;
        self.range(&["issuer", "clock-jump-hours"], issuer.clock_jump_hours, 1, 24 * 366)?;
        self.range(&["issuer", "crl-shards"], issuer.crl_shards, 1, crate::pki::crl::MAX_SHARDS)?;
        self.range(&["issuer", "witness-seconds"], issuer.witness_seconds, 1, 86_400)?;
        self.range(&["issuer", "workers"], issuer.workers, 1, 64)?;
        self.range(&["issuer", "queue"], issuer.queue, 1, 65_536)?;
        self.range(&["log", "segment-mib"], log.segment_mib, 1, 1_024)?;
        self.range(&["log", "reserve-mib"], log.reserve_mib, 1, 1_024)?;
        self.range(&["log", "queue"], log.queue, 1, 65_536)?;
        self.range(&["token", "threads"], token.threads, 1, 64)?;
        self.range(&["token", "queue"], token.queue, 8, 65_536)?;
        self.range(&["token", "deadline-seconds"], token.deadline_seconds, 1, 600)?;
        self.range(
            &["validation", "connect-timeout-seconds"],
            validation.connect_timeout_seconds,
            1,
            60,
        )?;
        self.range(
            &["validation", "total-timeout-seconds"],
            validation.total_timeout_seconds,
            1,
            300,
        )?;
        self.range(&["validation", "attempts"], validation.attempts, 1, 100)?;
        self.range(&["validation", "retry-seconds"], validation.retry_seconds, 1, 3_600)?;
        self.range(&["validation", "concurrency"], validation.concurrency, 1, 4_096)
    }

    fn web(&self, web: &crate::web::Settings) -> Result<(), ConfigError> {
        let path = ["web", "base-url"];
        let host = web.base_url.strip_prefix("https://");
        let plain =
            |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'@' | b'"' | b'<' | b'>');
        if !host.is_some_and(|host| !host.is_empty() && host.bytes().all(plain)) {
            return Err(self.refuse(
                "CHY-CONFIG-VALUE",
                &path,
                "takes an https:// URL without query",
            ));
        }
        if web.base_url.ends_with('/') {
            return Err(self.refuse(
                "CHY-CONFIG-VALUE",
                &path,
                "takes a URL without a slash at its end",
            ));
        }
        crate::web::witness::check(&web.witnesses).map_err(|why| {
            ConfigError(format!("{why} ({})", place(self.root, &["web", "witnesses"])))
        })
    }

    fn issuer(&self, issuer: &crate::issuer::Settings) -> Result<(), ConfigError> {
        issuer.watched_keys().map(drop).map_err(|why| {
            ConfigError(format!("{why} ({})", place(self.root, &["issuer", "watched-logs"])))
        })
    }

    fn validation(&self, validation: &crate::validate::Settings) -> Result<(), ConfigError> {
        validation
            .check()
            .map_err(|bad| self.refuse("CHY-CONFIG-VALUE", &["validation", bad.key], &bad.why))
    }

    fn production(&self, document: &Document) -> Result<(), ConfigError> {
        if document.validation.allow_loopback {
            return Err(self.refuse(
                "CHY-CONFIG-BOARD",
                &["validation", "allow-loopback"],
                "is for labs, and this is a production board",
            ));
        }
        if document.process.unconfined {
            return Err(self.refuse(
                "CHY-CONFIG-BOARD",
                &["process", "unconfined"],
                "is for labs, and this is a production board",
            ));
        }
        self.no_software(&document.token.module)
    }

    /// What a token in software calls itself is seen when its module is loaded; its path is seen here.
    pub(super) fn no_software(&self, module: &Path) -> Result<(), ConfigError> {
        let Some(name) = crate::hsm::software::by_path(module) else { return Ok(()) };
        Err(self.refuse(
            "CHY-CONFIG-SOFTHSM-PRODUCTION",
            &["token", "module"],
            &format!(
                "{} is {name}, which keeps keys in ordinary files; use a real token, or set [board] production = false",
                module.display()
            ),
        ))
    }

    /// Every profile's issuing CA is there, and the policy allows nothing that its name constraints forbid.
    pub(super) fn within(
        &self,
        policy: &crate::pki::policy::Settings,
        profiles: &[Profile],
        authority: &Authority,
    ) -> Result<(), ConfigError> {
        let first = Authority::FIRST_ISSUING;
        for profile in profiles.iter().filter(|profile| profile.issuer != first) {
            if authority.newest_of(&profile.issuer).is_none() {
                let lines: Vec<&str> = authority.issuers().map(|issuing| issuing.line).collect();
                let near = super::nearest(&profile.issuer, lines)
                    .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                return Err(self.refuse(
                    "CHY-CONFIG-PROFILE",
                    &["profiles"],
                    &format!(
                        "profile `{}`: `issuer`: no ceremony here made an issuing CA of the line `{}`{near}",
                        profile.name, profile.issuer
                    ),
                ));
            }
        }
        let others = profiles.iter().map(|profile| profile.issuer.as_str());
        let mut lines: Vec<&str> = std::iter::once(first).chain(others).collect();
        lines.sort_unstable();
        lines.dedup();
        lines.into_iter().try_for_each(|line| self.within_line(policy, authority, line))
    }

    fn within_line(
        &self,
        policy: &crate::pki::policy::Settings,
        authority: &Authority,
        line: &str,
    ) -> Result<(), ConfigError> {
        let newest = authority.newest_of(line);
        let Some(issuing) = newest.and_then(|newest| newest.certificate) else { return Ok(()) };
        let issuing = crate::pki::certificate::Certificate::parse_pem(issuing).map_err(|why| {
            ConfigError(format!("CHY-CA-BROKEN: the issuing certificate: {}", why.0))
        })?;
        crate::pki::policy::Policy::new(policy)
            .map_err(|bad| format!("`{}`: {}", bad.entry, bad.why))
            .and_then(|policy| policy.check_within(&issuing))
            .map_err(|why| self.refuse("CHY-CONFIG-POLICY", &["policy"], &why))
    }
}

/// Where a value stands, or what it would stand in.
pub(super) fn place(root: &Node, path: &[&str]) -> Place {
    (0..=path.len())
        .rev()
        .find_map(|length| root.at(&path[..length]))
        .map_or_else(|| root.place.clone(), |node| node.place.clone())
}
