//! Promise 4: what a taken-over web process can try at the socket.

use chancery::acme::problem::ProblemType;
use chancery::hsm::Class;
use chancery::id::OrderId;
use chancery::ipc::Issuer;
use chancery::ipc::client::{self, Client};
use chancery::ipc::message::{Finalize, Question};
use chancery::ipc::server::{self, Server};

use crate::house::{Account, BASE, Csr, House, LONG, NOW};
use crate::{HOUR, certificate, refused};

#[test]
fn promise_4_a_taken_over_web_process_stays_a_petitioner() {
    let house = House::new();
    let running = house.start();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("issuer.sock");
    let uids = vec![rustix::process::geteuid().as_raw()];
    let options =
        server::Options { path: path.clone(), mode: 0o600, digest: [0; 32], uids: uids.clone() };
    let _server = Server::start(options, running.running.service()).unwrap();
    let client = Client::start(client::Options { path, digest: [0; 32], uids }).unwrap();
    client.wait_connected(LONG).unwrap();
    let ask = |question| client.ask_blocking(question, LONG);

    let victim = running.register();
    let own = running.register();
    let before = house.issuing_key.count(Class::Certificate);
    let size = running.log.head().size;
    let good = Csr::names(&["dev.lan"]);
    let order = OrderId([1; 16]);
    let altered = |question: Question, change: &dyn Fn(&mut Finalize)| match question {
        Question::Finalize(mut finalize) => {
            change(&mut finalize);
            Question::Finalize(finalize)
        }
        other => other,
    };
    use ProblemType::*;
    let cases: Vec<(&str, Question, ProblemType)> = vec![
        (
            "signed by another key",
            Account { key: own.key.clone(), ..victim.clone() }.finalize(order, &good),
            Unauthorized,
        ),
        (
            "an account that never registered",
            Account::unregistered().finalize(order, &good),
            AccountDoesNotExist,
        ),
        (
            "claimed for another order",
            altered(own.finalize(order, &good), &|f| f.order = OrderId([2; 16])),
            Unauthorized,
        ),
        (
            "claimed for another account",
            altered(own.finalize(order, &good), &|f| f.account = victim.id),
            Unauthorized,
        ),
        (
            "a url that is no finalize URL",
            own.finalize_at(&format!("{BASE}/acme/order/{order}"), order, &good),
            Unauthorized,
        ),
        (
            "a url of another server",
            own.finalize_at(&format!("https://evil.lan/acme/order/{order}/finalize"), order, &good),
            Unauthorized,
        ),
        (
            "a kid of another server",
            Account { base: "https://evil.lan".into(), ..own.clone() }.finalize_at(
                &own.finalize_url(order),
                order,
                &good,
            ),
            Unauthorized,
        ),
        (
            "an altered payload",
            altered(own.finalize(order, &good), &|f| {
                f.jws = own.forged(order, &good, &Csr::names(&["b.lan"]))
            }),
            Unauthorized,
        ),
        (
            "a name outside the policy",
            own.finalize(order, &Csr::names(&["www.example.com"])),
            RejectedIdentifier,
        ),
        (
            "one name of two outside",
            own.finalize(order, &Csr::names(&["dev.lan", "8.8.8.8"])),
            RejectedIdentifier,
        ),
        ("a CA certificate", own.finalize(order, &Csr::ca(&["dev.lan"])), BadCsr),
        ("no name at all", own.finalize(order, &Csr::names(&[])), BadCsr),
        (
            "the account's own key",
            own.finalize(order, &Csr::of_account(&own, &["dev.lan"])),
            BadCsr,
        ),
        (
            "another account's key",
            own.finalize(order, &Csr::of_account(&victim, &["dev.lan"])),
            BadCsr,
        ),
        (
            "a CSR that its key did not sign",
            own.finalize(order, &Csr::spoilt(&["dev.lan"])),
            BadCsr,
        ),
        (
            "a profile that does not exist",
            altered(own.finalize(order, &good), &|f| f.profile = "ca".into()),
            InvalidProfile,
        ),
        (
            "the profile of the box itself",
            altered(own.finalize(order, &good), &|f| f.profile = "chancery:own-tls".into()),
            InvalidProfile,
        ),
        (
            "ten years",
            altered(own.finalize(order, &good), &|f| {
                f.not_after = Some(NOW.plus(3650 * 24 * HOUR))
            }),
            Malformed,
        ),
        (
            "a year ago",
            altered(own.finalize(order, &good), &|f| {
                f.not_before = Some(NOW.minus(365 * 24 * HOUR))
            }),
            Malformed,
        ),
        ("not a JWS", altered(own.finalize(order, &good), &|f| f.jws = b"{}".to_vec()), Malformed),
        (
            "too large",
            altered(own.finalize(order, &good), &|f| f.jws = vec![b'{'; 100_000]),
            Malformed,
        ),
        (
            "a registration as a finalize",
            altered(own.finalize(order, &good), &|f| f.jws = own.new_account(false)),
            Malformed,
        ),
        (
            "a finalize as a registration",
            Question::Register { jws: own.finalize_jws(order, &good) },
            Malformed,
        ),
    ];
    for (what, question, kind) in cases {
        assert_eq!(refused(ask(question)), kind, "{what}");
    }
    // The TLS key signs handshakes and nothing else; the issuing key is nowhere to be asked.
    let tbs = house.issuing.tbs().to_vec();
    for message in [tbs, vec![0x30; 130], vec![b' '; 130], vec![0; 5000], Vec::new()] {
        assert_eq!(refused(ask(Question::SignTls { message })), Malformed);
    }
    assert_eq!(house.tls_key.count(Class::Tls), 0);
    assert_eq!(house.issuing_key.count(Class::Certificate), before, "something was signed");
    assert_eq!(running.log.head().size, size, "something was recorded");

    // What the victim's own request can do, it can do once and for the victim alone.
    let (leaf, ..) = certificate(ask(victim.finalize(order, &good)));
    assert_eq!(refused(ask(own.finalize(order, &good))), Unauthorized, "another's order");
    let replay = altered(victim.finalize(order, &good), &|f| f.order = OrderId([3; 16]));
    assert_eq!(refused(ask(replay)), Unauthorized, "a replay for another order");
    assert_eq!(certificate(ask(victim.finalize(order, &good))).0.der(), leaf.der());
    assert_eq!(house.issuing_key.count(Class::Certificate), before + 1);
}
