//! The page at `/` for people: what this box is, whose root to trust, what to paste.

use std::fmt::Write;

use super::limits;
use crate::acme::directory::{Resource, Urls};
use crate::pki::certificate::Certificate;
use crate::pki::profile::Profile;

/// May load nothing and be framed by nobody.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const TEMPLATE: &str = include_str!("page/index.html");

/// The page, made once.
pub(crate) fn render(
    urls: &Urls,
    root: &Certificate,
    profiles: &[Profile],
    terms: Option<&str>,
    limits: &limits::Settings,
) -> String {
    let mut rows = String::new();
    for profile in profiles {
        let (name, description) = (escape(&profile.name), escape(&profile.description));
        // Writing into a String does not fail.
        let _ = writeln!(rows, "<dt><code>{name}</code></dt><dd>{description}</dd>");
    }
    let mut limited = String::new();
    for (what, most) in limits::rows(limits) {
        let _ = writeln!(limited, "<dt>{}</dt><dd>{}</dd>", escape(what), escape(&most));
    }
    TEMPLATE
        .replace("{{directory}}", &escape(&urls.url(Resource::Directory)))
        .replace("{{base}}", &escape(urls.base()))
        .replace("{{subject}}", &escape(&root.subject()))
        .replace("{{fingerprint}}", &fingerprint(root))
        .replace("{{profiles}}", &rows)
        .replace(
            "{{terms}}",
            &terms.map(|url| TERMS.replace("{{url}}", &escape(url))).unwrap_or_default(),
        )
        .replace("{{limits}}", &limited)
}

/// Where `userActionRequired` sends a person (RFC 8555 section 7.3.3).
const TERMS: &str = r#"<h2 id="terms">Terms of service</h2>
<p>Read <a href="{{url}}">{{url}}</a>. An account that agreed to earlier terms places no orders until it agrees to
these: its client posts <code>{"termsOfServiceAgreed":true}</code> to the account's URL, or registers anew under a new
account key.</p>
"#;

/// SHA-256 in hexadecimal pairs, as OpenSSL prints it.
fn fingerprint(certificate: &Certificate) -> String {
    let mut text = String::with_capacity(95);
    for (index, octet) in certificate.fingerprint().iter().enumerate() {
        let _ = write!(text, "{}{octet:02X}", if index == 0 { "" } else { ":" });
    }
    text
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // A description must not be able to name a placeholder.
            '{' => escaped.push_str("&#123;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(
            escape("<b a=\"1\" c='2'>&{{base}}"),
            "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;&#123;&#123;base}}"
        );
    }
}
