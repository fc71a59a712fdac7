//! uacme, Debian's, with ualpn for tls-alpn-01.
//!
//! It trusts what the system trusts and has no option for another root, so it runs in a mount namespace of its
//! own where the CA's root *is* the system's bundle. That needs root, or user namespaces.

use std::process::Command;

use super::lab::succeed;
use super::matrix::{Cannot, Client, NO_PROFILES, Skill, Works};
use super::site::{Site, debian};

pub const CLIENT: Client = Client {
    name: "uacme",
    from: "Debian",
    version: || {
        let output = Command::new(debian("usr/bin/uacme")).arg("--version").output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.split_whitespace().find(|word| word.contains('.')).map(str::to_owned)
    },
    cell: |skill| match skill {
        Skill::Http01 => Works(|site| {
            enrol(site, "http-01", &site.name());
            site.verify(chain(site));
        }),
        Skill::Dns01 => Works(|site| {
            enrol(site, "dns-01", &site.name());
            site.verify(chain(site));
        }),
        Skill::TlsAlpn01 => Works(|site| {
            let socket = site.dir.join("ualpn.sock");
            let mut server = Command::new(debian("usr/bin/ualpn"));
            server.env("LD_LIBRARY_PATH", super::site::libraries());
            server.args(["-v", "-4", "-b"]).arg(site.tls().replace(':', "@"));
            server.args(["-c", "127.0.0.1@9", "-s"]).arg(&socket);
            let _server = site.spawn("ualpn", &mut server);
            site.wait("ualpn", || socket.exists().then_some(()));
            let hook = debian("usr/share/uacme/ualpn.sh");
            register(site);
            // The hook that Debian ships calls `ualpn`, which finds its server by the default path of its socket.
            let wrapper = site.dir.join("bin");
            std::fs::create_dir(&wrapper).unwrap();
            let script = format!(
                "#!/bin/sh\nexec env LD_LIBRARY_PATH={} {} -s {}\n",
                super::site::libraries().display(),
                debian("usr/bin/ualpn").display(),
                socket.display()
            );
            super::site::write_script(&wrapper.join("ualpn"), &script);
            let mut command = uacme(site);
            command.arg("-h").arg(hook).args(["issue", &site.name()]);
            succeed(command.env("PATH", site.path_with(&wrapper)));
            site.verify(chain(site));
        }),
        Skill::Wildcard => Works(|site| {
            let name = format!("*.{}", site.name());
            enrol(site, "dns-01", &name);
            site.verify_for(chain(site), &format!("DNS:{name}"));
        }),
        Skill::Ip => Works(|site| {
            let address = site.address().to_string();
            enrol(site, "http-01", &address);
            site.verify_for(format!("conf/{address}/cert.pem"), &format!("IP Address:{address}"));
        }),
        Skill::Ticket => Works(|site| {
            let (kid, secret) = site.ticket();
            succeed(uacme(site).args(["--eab", &format!("{kid}:{secret}"), "new"]));
            issue(site, "http-01", &site.name());
            site.verify(chain(site));
        }),
        Skill::Renew => Works(|site| {
            enrol(site, "http-01", &site.name());
            let first = site.verify(chain(site));
            issue(site, "http-01", &site.name());
            assert_ne!(site.verify(chain(site)), first);
        }),
        Skill::Ari => Cannot("this version knows no renewal information"),
        Skill::Profile => NO_PROFILES,
        Skill::KeyChange => Works(|site| {
            enrol(site, "http-01", &site.name());
            let change = || drop(succeed(uacme(site).arg("newkey")));
            site.changes_key(chain(site), change, || issue(site, "http-01", &site.name()));
        }),
        Skill::Deactivate => Works(|site| {
            enrol(site, "http-01", &site.name());
            site.deactivates(chain(site), || drop(succeed(uacme(site).arg("deactivate"))));
        }),
        Skill::Revoke => Works(|site| {
            enrol(site, "http-01", &site.name());
            // It renames what it has revoked.
            std::fs::copy(site.dir.join(chain(site)), site.dir.join("kept.pem")).unwrap();
            succeed(uacme(site).args(["revoke", &chain(site)]));
            site.revoked("kept.pem");
        }),
    },
};

fn chain(site: &Site<'_>) -> String {
    format!("conf/{}/cert.pem", site.name())
}

fn uacme(site: &Site<'_>) -> Command {
    let mut command = site.trusting_system();
    command.env("LD_LIBRARY_PATH", super::site::libraries()).arg(debian("usr/bin/uacme"));
    command.args(["-v", "-y", "-f", "-c", "conf", "-a", &site.directory()]);
    command
}

fn register(site: &Site<'_>) {
    succeed(uacme(site).arg("new"));
}

fn issue(site: &Site<'_>, method: &str, name: &str) {
    let _web = site.web_root();
    let mut command = uacme(site);
    command.args(["-h", &site.hook(), "issue", name]);
    succeed(command.env("HOOK_METHOD", method));
}

fn enrol(site: &Site<'_>, method: &str, name: &str) {
    register(site);
    issue(site, method, name);
}
