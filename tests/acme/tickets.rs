//! Tickets over ACME with the whole issuer (RFC 8555 section 7.3.4): what is bound to one is had by no other account,
//! whatever that account has proven: an ancestor (RFC 9444), a wildcard, or the name itself before it was bound.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64ct::{Base64UrlUnpadded, Encoding};
use chancery::acme::ticket::Constraints;
use chancery::env::Clock;
use chancery::ipc::admin::tickets::{MintedTicket, NewTicket, TicketAnswer, TicketQuestion};
use chancery::ipc::admin::{AdminAnswer, AdminQuestion, Operator};
use serde_json::{Value, json};

use crate::support::raw::{Answer, csr};
use crate::support::{Ca, Client, Wish};

async fn start() -> Ca {
    let mut wish = Wish { subdomains: true, wildcards: true, ..Wish::whole() };
    wish.validation.challenges = vec!["http-01".into(), "dns-01".into()];
    Ca::with(wish).await
}

fn mint(ca: &Ca, names: &[&str], suffixes: &[&str]) -> MintedTicket {
    let none: [&str; 0] = [];
    let (names, suffixes) = (names.iter().copied(), suffixes.iter().copied());
    let ticket = NewTicket {
        constraints: Constraints::parse(names, suffixes, none, None, false).unwrap(),
        uses: 1,
        expires: ca.house.as_ref().unwrap().clock.now().plus(Duration::from_secs(86_400)),
        note: String::new(),
    };
    let question =
        AdminQuestion::Ticket(TicketQuestion::Mint { tickets: vec![ticket], dry: false });
    let operator = Operator { uid: 0, user: "root".into() };
    match ca.office.as_ref().unwrap().running.admin().answer(&operator, question) {
        Ok(AdminAnswer::Ticket(TicketAnswer::Minted(mut minted))) => minted.remove(0),
        other => panic!("{other:?}"),
    }
}

/// A newAccount request by ticket.
async fn enrol(client: &mut Client, ticket: &MintedTicket) -> Answer {
    let url = client.new_account_url();
    let header = json!({ "alg": "HS256", "kid": ticket.ticket, "url": url });
    let encode = |value: &Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    let (protected, payload) = (encode(&header), encode(&client.key.jwk()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, ticket.secret.octets());
    let mac = hmac::sign(&key, format!("{protected}.{payload}").as_bytes());
    let binding = json!({
        "protected": protected, "payload": payload,
        "signature": Base64UrlUnpadded::encode_string(mac.as_ref()),
    });
    let answer = client.post(&url, &json!({ "externalAccountBinding": binding })).await;
    client.account = answer.header("location").map(str::to_owned);
    answer
}

async fn order(client: &mut Client, name: &str, ancestor: Option<&str>) -> Answer {
    let mut identifier = json!({ "type": "dns", "value": name });
    if let Some(ancestor) = ancestor {
        identifier["ancestorDomain"] = json!(ancestor);
    }
    client.post(&client.new_order_url(), &json!({ "identifiers": [identifier] })).await
}

/// An account that has proven `plant.test` with all names below it, and all wildcards there.
async fn owner_of_the_zone(ca: &Ca) -> Client {
    let mut client = ca.registered().await;
    let asked = json!({ "identifier": {
        "type": "dns", "value": "plant.test", "subdomainAuthAllowed": true,
    }});
    let made = client.post(&ca.url("/acme/new-authz"), &asked).await;
    assert_eq!(made.status, 201, "{made:?}");
    client.prove_by_dns(ca, made.header("location").unwrap()).await;
    let placed = order(&mut client, "*.other.plant.test", Some("plant.test")).await.json();
    client.prove_by_dns(ca, placed["authorizations"][0].as_str().unwrap()).await;
    client
}

async fn finalize(client: &mut Client, placed: &Answer, name: &str) -> Value {
    let finalize = placed.json()["finalize"].as_str().unwrap().to_owned();
    let done = client.post(&finalize, &json!({ "csr": csr(&[name]) })).await;
    assert_eq!(done.status, 200, "{done:?}");
    let url = placed.header("location").unwrap().to_owned();
    client.poll_while(&url, &["processing"]).await.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_is_spent_once_by_the_key_it_was_bound_to() {
    let ca = start().await;
    let ticket = mint(&ca, &["cam.plant.test"], &[]);
    let mut device = ca.client().await;
    let registered = enrol(&mut device, &ticket).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let kid = registered.header("location").unwrap().to_owned();
    // The same device again, after a lost answer.
    let mut again = ca.client().await;
    again.key = device.key.clone();
    let answer = enrol(&mut again, &ticket).await;
    assert_eq!((answer.status, answer.header("location")), (200, Some(kid.as_str())));
    let mut thief = ca.client().await;
    let answer = enrol(&mut thief, &ticket).await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "unauthorized"));
    let placed = order(&mut device, "cam.plant.test", None).await;
    device.prove_by_dns(&ca, placed.json()["authorizations"][0].as_str().unwrap()).await;
    let done = finalize(&mut device, &placed, "cam.plant.test").await;
    assert_eq!(done["status"], "valid", "{done}");
    let refused = order(&mut device, "printer.plant.test", None).await;
    assert_eq!((refused.status, refused.problem().as_str()), (403, "rejectedIdentifier"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_4_a_bound_name_is_not_had_through_its_ancestor_or_a_wildcard() {
    let ca = start().await;
    let ticket = mint(&ca, &["cam.plant.test"], &["line.plant.test"]);
    let mut zone = owner_of_the_zone(&ca).await;
    for name in [
        "cam.plant.test",
        "line.plant.test",
        "x.line.plant.test",
        "x.y.line.plant.test",
        "*.line.plant.test",
        // Matches cam.plant.test and line.plant.test.
        "*.plant.test",
    ] {
        for ancestor in [None, Some("plant.test")] {
            let refused = order(&mut zone, name, ancestor).await;
            let what = format!("{name} below {ancestor:?}");
            let said = (refused.status, refused.problem());
            assert_eq!(said, (403, "rejectedIdentifier".to_owned()), "{what}: {refused:?}");
        }
    }
    for name in ["cam.plant.test", "x.line.plant.test"] {
        let asked = json!({ "identifier": { "type": "dns", "value": name } });
        let refused = zone.post(&ca.url("/acme/new-authz"), &asked).await;
        assert_eq!((refused.status, refused.problem().as_str()), (403, "rejectedIdentifier"));
    }
    // What is not bound it has, without another proof.
    for name in ["x.cam.plant.test", "cam2.plant.test", "plant.test", "*.cam.plant.test"] {
        let placed = order(&mut zone, name, None).await;
        assert_eq!(placed.json()["status"], "ready", "{name}: {placed:?}");
        assert_eq!(finalize(&mut zone, &placed, name).await["status"], "valid", "{name}");
    }
    // The device has its name, and may prove it by the zone where it is let.
    let mut device = ca.client().await;
    assert_eq!(enrol(&mut device, &ticket).await.status, 201);
    let placed = order(&mut device, "cam.plant.test", Some("plant.test")).await;
    device.prove_by_dns(&ca, placed.json()["authorizations"][0].as_str().unwrap()).await;
    assert_eq!(finalize(&mut device, &placed, "cam.plant.test").await["status"], "valid");
    // Which gives it nothing else of the zone.
    let refused = order(&mut device, "cam2.plant.test", None).await;
    assert_eq!((refused.status, refused.problem().as_str()), (403, "rejectedIdentifier"));
}

/// An order from before the ticket, proven and all: the issuer judges when it makes the certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_4_an_order_from_before_the_ticket_gets_nothing() {
    let ca = start().await;
    let mut zone = owner_of_the_zone(&ca).await;
    let mut placed = Vec::new();
    for name in ["cam.plant.test", "*.plant.test"] {
        let order = order(&mut zone, name, Some("plant.test")).await;
        assert_eq!(order.json()["status"], "ready", "{order:?}");
        placed.push((name, order));
    }
    mint(&ca, &["cam.plant.test"], &[]);
    for (name, order) in placed {
        let ended = finalize(&mut zone, &order, name).await;
        assert_eq!(ended["status"], "invalid", "{name}: {ended}");
        let error = &ended["error"];
        let kind = error["type"].as_str().unwrap();
        assert!(kind.ends_with(":rejectedIdentifier"), "{name}: {ended}");
    }
}

/// Nor does control of the zone revoke what a ticket's account has; it does for other names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_4_a_bound_name_s_certificate_is_not_revoked_through_its_ancestor() {
    let ca = start().await;
    let ticket = mint(&ca, &["cam.plant.test"], &[]);
    let mut device = ca.client().await;
    assert_eq!(enrol(&mut device, &ticket).await.status, 201);
    let key = || rcgen::KeyPair::generate().unwrap();
    let bound = device.certified(&ca, &["cam.plant.test"], &key()).await;
    let free = ca.registered().await.certified(&ca, &["cam2.plant.test"], &key()).await;
    let mut zone = owner_of_the_zone(&ca).await;
    let url = ca.url("/acme/revoke-cert");
    let payload = |der: &[u8]| json!({ "certificate": Base64UrlUnpadded::encode_string(der) });
    let refused = zone.post(&url, &payload(bound.der())).await;
    assert_eq!((refused.status, refused.problem().as_str()), (403, "unauthorized"));
    assert_eq!(zone.post(&url, &payload(free.der())).await.status, 200);
    assert_eq!(device.post(&url, &payload(bound.der())).await.status, 200);
}
