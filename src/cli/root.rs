//! `chancery root`: the root certificate's fingerprint, and the commands by which systems and clients come to
//! trust it.

use clap::Args;

use super::{Context, Failure, print, print_json};
use crate::ceremony::transcript::grouped;
use crate::id::hex;
use crate::pki::authority::Authority;
use crate::pki::certificate::Certificate;

/// `chancery root`.
#[derive(Clone, Debug, Args)]
pub struct RootArguments {
    /// Only what concerns this system or client, by a part of its name (debian, firefox, certbot, …).
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Print the certificate itself, PEM, and nothing else.
    #[arg(long)]
    pem: bool,
}

/// One system or client.
struct Recipe {
    name: &'static str,
    /// Lines; `{pem}` is the file, `{directory}` the ACME directory's URL, `{url}` where the file is served.
    lines: &'static [&'static str],
}

pub fn run(arguments: &RootArguments, context: &Context) -> Result<(), Failure> {
    let config = context.load()?;
    let Some(authority) = &config.authority else {
        return Err(Failure::operator(format!(
            "CHY-CA-ABSENT: there is no {}; no ceremony has been held here",
            config.paths.authority().display()
        )));
    };
    // The newest: what devices shall trust from now on.
    let (name, pem) =
        authority.roots().last().map_or((Authority::FIRST_ROOT, authority.root.as_str()), |root| {
            (root.name, root.certificate)
        });
    let root = Certificate::parse_pem(pem).map_err(|why| {
        Failure::operator(format!("CHY-CA-BROKEN: ca/authority.json: root: {}", why.0))
    })?;
    if arguments.pem {
        return print(root.pem().trim_end());
    }
    let wanted = arguments.name.as_deref().unwrap_or_default().to_ascii_lowercase();
    let recipes: Vec<&Recipe> = RECIPES
        .iter()
        .filter(|recipe| recipe.name.to_ascii_lowercase().contains(&wanted))
        .collect();
    if recipes.is_empty() {
        let known: Vec<&str> = RECIPES.iter().map(|recipe| recipe.name).collect();
        return Err(Failure::failed(format!(
            "CHY-USAGE: nothing is known about {wanted:?}; known are {}",
            known.join(", ")
        )));
    }
    let url = match authority.aia_url.split('/').nth(2) {
        Some(host) => format!("http://{host}/{name}.pem"),
        None => format!("http://HOST/{name}.pem"),
    };
    let directory = format!("{}/acme/directory", config.web.base_url.trim_end_matches('/'));
    let fill = |line: &str| {
        line.replace("{pem}", "root.pem").replace("{directory}", &directory).replace("{url}", &url)
    };
    let (_, not_after) = root.validity();
    let fingerprint = grouped(&hex(&root.fingerprint()));
    if context.json {
        let recipes: serde_json::Map<String, serde_json::Value> = recipes
            .iter()
            .map(|recipe| {
                let lines = recipe.lines.iter().map(|line| fill(line).into()).collect();
                (recipe.name.to_owned(), serde_json::Value::Array(lines))
            })
            .collect();
        return print_json(&serde_json::json!({
            "subject": root.subject(),
            "sha256": fingerprint,
            "not_after": not_after.to_string(),
            "url": url,
            "directory": directory,
            "pem": root.pem(),
            "install": recipes,
        }));
    }
    print(&format!("subject      {}", root.subject()))?;
    print(&format!("fingerprint  SHA-256 {fingerprint}"))?;
    print(&format!("valid until  {not_after}"))?;
    print(&format!("served at    {url}"))?;
    print(&fill(FETCH))?;
    for recipe in recipes {
        print(&format!("\n{}", recipe.name))?;
        for line in recipe.lines {
            print(&format!("    {}", fill(line)))?;
        }
    }
    Ok(())
}

const FETCH: &str = "
Fetch it, and compare the fingerprint with the one above or with the ceremony's transcript before you
trust it: it came over a connection that proves nothing.
    curl -fsS {url} -o {pem}
    openssl x509 -in {pem} -noout -fingerprint -sha256";

const RECIPES: &[Recipe] = &[
    Recipe {
        name: "Debian, Ubuntu",
        lines: &[
            "sudo install -m 0644 {pem} /usr/local/share/ca-certificates/chancery-root.crt",
            "sudo update-ca-certificates",
        ],
    },
    Recipe {
        name: "RHEL, Fedora",
        lines: &[
            "sudo install -m 0644 {pem} /etc/pki/ca-trust/source/anchors/chancery-root.pem",
            "sudo update-ca-trust",
        ],
    },
    Recipe {
        name: "Alpine",
        lines: &[
            "apk add ca-certificates",
            "install -m 0644 {pem} /usr/local/share/ca-certificates/chancery-root.crt",
            "update-ca-certificates",
        ],
    },
    Recipe {
        name: "macOS",
        lines: &[
            "sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {pem}",
        ],
    },
    Recipe {
        name: "Windows",
        lines: &["certutil -addstore -f Root {pem}     (in a console of an administrator)"],
    },
    Recipe {
        name: "Firefox, NSS",
        lines: &[
            "certutil -d sql:$HOME/.mozilla/firefox/PROFILE -A -t C,, -n chancery-root -i {pem}",
            "or let it use the system's store: policies.json {\"policies\": {\"Certificates\": {\"ImportEnterpriseRoots\": true}}}",
        ],
    },
    Recipe {
        name: "Chrome on Linux",
        lines: &["certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n chancery-root -i {pem}"],
    },
    Recipe {
        name: "Java",
        lines: &[
            "keytool -importcert -noprompt -cacerts -storepass changeit -alias chancery-root -file {pem}",
        ],
    },
    Recipe {
        name: "Android",
        lines: &[
            "Settings, Security, Encryption & credentials, Install a certificate, CA certificate: {pem}",
            "Apps trust it only if their network security configuration says so; browsers do.",
        ],
    },
    Recipe {
        name: "iOS, iPadOS",
        lines: &[
            "Open {url} in Safari; Settings, General, VPN & Device Management: install the profile.",
            "Then Settings, General, About, Certificate Trust Settings: switch it on.",
        ],
    },
    Recipe {
        name: "certbot",
        lines: &[
            "REQUESTS_CA_BUNDLE={pem} certbot certonly --standalone --server {directory} -d NAME",
        ],
    },
    Recipe {
        name: "lego",
        lines: &[
            "LEGO_CA_CERTIFICATES={pem} lego --server {directory} --email YOU@NAME --accept-tos --http --domains NAME run",
        ],
    },
    Recipe {
        name: "acme.sh",
        lines: &["acme.sh --issue --standalone --server {directory} --ca-bundle {pem} -d NAME"],
    },
    Recipe {
        name: "Caddy",
        lines: &["{", "    acme_ca {directory}", "    acme_ca_root {pem}", "}"],
    },
    Recipe { name: "curl", lines: &["curl --cacert {pem} {directory}"] },
    Recipe {
        name: "Python",
        lines: &[
            "SSL_CERT_FILE={pem} python3 …          (ssl, urllib)",
            "REQUESTS_CA_BUNDLE={pem} python3 …     (requests)",
        ],
    },
    Recipe { name: "Node", lines: &["NODE_EXTRA_CA_CERTS={pem} node …"] },
    Recipe { name: "Go, OpenSSL, Ruby", lines: &["SSL_CERT_FILE={pem} …"] },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_names_what_to_trust() {
        for recipe in RECIPES {
            let text = recipe.lines.join("\n");
            let named = text.contains("{pem}") || text.contains("{url}");
            assert!(named, "{} names no certificate", recipe.name);
            for rest in text.replace("{pem}", "").replace("{url}", "").split("{directory}") {
                assert!(!rest.contains("{d") && !rest.contains("{u"), "{}", recipe.name);
            }
        }
    }
}
